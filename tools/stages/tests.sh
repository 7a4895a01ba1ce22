#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# All tests. Those of roles and fleets wait for SSH and systemd on other hosts, those of rules and modules run here, one at a
# time: side by side they take as long as the longer ones. The first failure ends both.

stages=$ROOT/tools/stages
declare -A part

# begin NAME STAGE...: runs stages in turn, in the background and in a process group of their own.
begin() {
  local name=$1 stage
  shift
  set -m
  for stage; do "$stages/$stage.sh"; done >"$BUILD/tests-$name.log" 2>&1 </dev/null &
  set +m
  part[$!]=$name
}

stop() {
  local pid
  for pid in "${!part[@]}"; do
    kill -- "-$pid" 2>/dev/null || true
  done
  wait
  # What a stage that was stopped left behind.
  for home in "$BUILD"/molecule "$BUILD"/fleet; do
    [[ ! -d $home ]] || KEYFLEET_HOSTS=$home "$ROOT/tools/hosts.sh" down >/dev/null 2>&1 || true
  done
}
trap stop EXIT

begin hosts molecule fleet
begin modules unit
while ((${#part[@]})); do
  status=0
  wait -n -p ended "${!part[@]}" || status=$?
  name=${part[$ended]}
  unset "part[$ended]"
  if ((status)); then
    tail -n 400 "$BUILD/tests-$name.log"
    die "tests of $name failed; all they said is in ${BUILD#"$ROOT/"}/tests-$name.log"
  fi
  echo "tests of $name passed after $SECONDS s"
done
trap - EXIT

grep -E 'SCENARIO RECAP|: actions=|^=+ .* (passed|failed)' "$BUILD/tests-hosts.log" || true
cat "$BUILD/tests-modules.log"
