#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs stages (files of tools/stages) in turn and stops at the first that fails.
#   run.sh [--beside STAGE,STAGE...] STAGE...
# Those after --beside run in turn as well, at the same time as the others: tests on other hosts, which wait for SSH and systemd
# while those of this host wait for each other. The first failure ends both.
# The last stage's output comes last, so that a run which ends with the tests ends with their closing line.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

beside=()
if [[ ${1:-} == --beside ]]; then
  IFS=, read -ra beside <<<"${2:-}"
  shift 2
fi
(($#)) || die "usage: run.sh [--beside STAGE,STAGE...] STAGE..."

need_packages git softhsm2 opensc opencryptoki procps gcc libc6-dev
need_venv "$ROOT/.venv-dev" dev
link_collection

export PATH=$ROOT/.venv-dev/bin:$PATH
[[ -t 1 ]] || export NO_COLOR=1
cd "$ROOT"
printf 'ready after %s s\n' "$SECONDS"

beside_log=$BUILD/beside.log
held=$BUILD/last.log
stages="${beside[*]} $*"
declare -A running

# begin NAME STAGE...: stages in turn, in the background and in a process group of their own.
begin() {
  local name=$1 stage
  shift
  set -m
  for stage; do "$ROOT/tools/stages/$stage.sh"; done </dev/null &
  set +m
  running[$!]=$name
}

stop() {
  local pid home
  for pid in "${!running[@]}"; do
    kill -- "-$pid" 2>/dev/null || true
  done
  wait
  # What a stage of this run that was stopped left behind. Another run may be using the other's hosts.
  for home in molecule fleet; do
    if [[ " $stages " == *" $home "* && -d $BUILD/$home ]]; then
      KEYFLEET_HOSTS=$BUILD/$home "$ROOT/tools/hosts.sh" down >/dev/null 2>&1 || true
    fi
  done
}

# until_ended NAME [FILE]: waits for what has this name, and whose output is held in FILE. A failure, of whatever runs, ends all.
until_ended() {
  local ended status name
  while [[ " ${running[*]} " == *" $1 "* ]]; do
    status=0
    wait -n -p ended "${!running[@]}" || status=$?
    name=${running[$ended]}
    unset "running[$ended]"
    ((status)) || continue
    if [[ $name == beside ]]; then
      tail -n 400 "$beside_log"
      die "==> ${beside[*]} failed after $SECONDS s; all they said is in ${beside_log#"$ROOT/"}"
    fi
    [[ -z ${2:-} ]] || cat "$2"
    die "==> $name failed after $((SECONDS - started)) s"
  done
}

trap stop EXIT
if ((${#beside[@]})); then
  printf '\n==> %s, beside the others\n' "${beside[*]}"
  begin beside "${beside[@]}" >"$beside_log" 2>&1
fi

number=0
for stage; do
  number=$((number + 1))
  started=$SECONDS
  printf '\n==> %s/%s %s\n' "$number" "$#" "$stage"
  if ((number == $# && ${#beside[@]})); then
    begin "$stage" "$stage" >"$held" 2>&1
    until_ended "$stage" "$held"
  else
    begin "$stage" "$stage"
    until_ended "$stage"
  fi
  ((number == $#)) || printf '==> %s passed in %s s (%s s so far)\n' "$stage" "$((SECONDS - started))" "$SECONDS"
done

if ((${#beside[@]})); then
  printf '==> %s passed in %s s (%s s so far)\n' "$stage" "$((SECONDS - started))" "$SECONDS"
  until_ended beside
  printf '==> %s passed (%s s so far)\n\n' "${beside[*]}" "$SECONDS"
  grep -E ': actions=|^=+ .* (passed|failed)' "$beside_log" || true
  printf '\n==> %s\n' "$stage"
  cat "$held"
fi
trap - EXIT
