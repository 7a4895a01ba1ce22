#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs stages (files of tools/stages) in lanes. A lane runs its stages in turn, beside the other lanes; the first failure ends all.
#   run.sh [--beside STAGE,STAGE...]... STAGE...
# What a stage says is in .build/logs. One lane alone says it as it goes. Of several lanes what the last one's last stage said comes
# at the end, below a table of what each stage took: a run that ends with the tests ends with their closing line.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lanes=()
while [[ ${1:-} == --beside ]]; do
  lanes+=("$2")
  shift 2
done
(($#)) || die "usage: run.sh [--beside STAGE,STAGE...]... STAGE..."
lanes+=("$(IFS=, && echo "$*")")
IFS=, read -ra stages <<<"$(IFS=, && echo "${lanes[*]}")"
last=${stages[-1]}
logs=$BUILD/logs

# busy: seconds of CPU that all programs of this machine have used, whichever container they are in.
busy() {
  local user nice system hard soft
  read -r _ user nice system _ _ hard soft _ </proc/stat
  echo $(((user + nice + system + hard + soft) / $(getconf CLK_TCK)))
}

# half NUMBER: of the processors. One is for the lanes in which a program waits for the next one on a test host, the other for the rest.
half() {
  [[ ,${lanes[$1]}, == *,molecule,* || ,${lanes[$1]}, == *,fleet,* ]] && echo first || echo second
}

# in_halves NUMBER...: do these lanes need both?
in_halves() {
  local number
  (($(for number; do half "$number"; done | sort -u | wc -l) > 1))
}

# lane NUMBER: its stages in turn, and what each took: seconds, CPU seconds of its programs, those of the kernel for them.
lane() {
  local stage status part=all in_turn TIMEFORMAT='%0R %0U %0S'
  IFS=, read -ra in_turn <<<"${lanes[$1]}"
  if ((${#lanes[@]} > 1)); then
    [[ ! $apart ]] || part=$(half "$1")
    python "$ROOT/tools/lane_processors.py" "$BASHPID" "$part"
  fi
  for stage in "${in_turn[@]}"; do
    echo "$stage" >"$logs/lane$1"
    status=0
    if ((${#lanes[@]} == 1)); then
      printf '\n==> %s\n' "$stage"
      { time "$ROOT/tools/stages/$stage.sh" 2>&1 | tee "$logs/$stage.log" >&3; } 3>&1 2>"$logs/$stage.time" || status=$?
    else
      { time "$ROOT/tools/stages/$stage.sh" >"$logs/$stage.log" 2>&1; } 2>"$logs/$stage.time" || status=$?
    fi
    ((status == 0)) || exit "$status"
    printf '==> %s passed (%s s so far)\n' "$stage" "$SECONDS"
  done
}

stop() {
  local pid home
  # The number of one that has ended may be another's by now.
  for pid in $(jobs -pr); do
    kill -- "-$pid" 2>/dev/null || true
  done
  wait
  [[ $ready && ${KEYFLEET_KEEP_HOSTS:-} != 1 ]] || return 0
  # What a stage of this run that was stopped left behind. Another run may be using the other's hosts.
  for home in molecule fleet providers gateway; do
    if [[ " ${stages[*]} " == *" $home "* && -d $BUILD/$home ]]; then
      KEYFLEET_HOSTS=$BUILD/$home "$ROOT/tools/hosts.sh" down >/dev/null 2>&1 || true
    fi
  done
}

table() {
  local stage seconds user system
  printf '\n%-14s%9s%9s\n' stage seconds 'CPU s'
  for stage in "${stages[@]}"; do
    read -r seconds user system <"$logs/$stage.time"
    printf '%-14s%9s%9s\n' "$stage" "$seconds" "$((user + system))"
  done
  printf '%-14s%9s%9s  (all that ran on this machine; the test hosts are counted here alone)\n\n' together "$SECONDS" "$(($(busy) - before))"
}

declare -A running
ready=
trap stop EXIT
before=$(busy)
need_packages git softhsm2 opensc opencryptoki procps gcc libc6-dev libnss3 gnutls-bin libengine-pkcs11-openssl
# Images of the hosts are made while Python's packages are installed. Who wants hosts says what went wrong.
if [[ " ${stages[*]} " == *" molecule "* ]] && ((EUID == 0)); then
  mkdir -p "$BUILD"
  set -m
  "$ROOT/tools/hosts.sh" images --debian bookworm,trixie </dev/null >"$BUILD/images.log" 2>&1 &
  set +m
fi
need_venv "$ROOT/.venv-dev" dev
link_collection

export PATH=$ROOT/.venv-dev/bin:$PATH
[[ -t 1 ]] || export NO_COLOR=1
cd "$ROOT"
rm -rf "$logs"
mkdir -p "$logs"
ready=yes
printf 'ready after %s s\n' "$SECONDS"

apart=
! in_halves "${!lanes[@]}" || apart=yes
for number in "${!lanes[@]}"; do
  # A process group of its own, to be ended as one.
  set -m
  lane "$number" </dev/null &
  set +m
  running[$!]=$number
done

while ((${#running[@]})); do
  status=0
  wait -n -p ended "${!running[@]}" || status=$?
  number=${running[$ended]}
  unset "running[$ended]"
  if ((status == 0)); then
    # What runs on one half alone gets the other, too.
    if [[ $apart ]] && ! in_halves "${running[@]}"; then
      apart=
      python "$ROOT/tools/lane_processors.py" release
    fi
    continue
  fi
  stage=$(<"$logs/lane$number")
  ((${#lanes[@]} == 1)) || tail -n 400 "$logs/$stage.log"
  die "==> $stage failed after $SECONDS s; what it said is in ${logs#"$ROOT/"}/$stage.log"
done
trap - EXIT

((${#lanes[@]} == 1)) && exit
for stage in "${stages[@]}"; do
  [[ $stage == "$last" ]] || grep -hE ': actions=|^=+ .* (passed|failed)' "$logs/$stage.log" || true
done
table
cat "$logs/$last.log"
