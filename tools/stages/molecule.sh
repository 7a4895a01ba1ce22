#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/for_hosts.sh"

# The scenarios of extensions/molecule. Arguments: only these scenarios. A role is tried here on Debian 13, with what it refuses and what goes
# wrong; that it converges and then has nothing to do is seen on Debian 12, too, where the tests of the fleet bring each role to hosts of both.

# The fleet's tests beside it are a fifth more work for the same processors: so both end together.
renice -n 1 -p $$ >/dev/null

# Roles that stand alone share a host: none has what another of them brings.
alone=(package service softhsm runtime)
# Roles that stand on runtime and softhsm share two: host1 with Debian 12, which is the other host where a scenario needs one, and host2.
# The check mode of all comes first, as long as these are bare.
above=(kms gateway load_balancer)

export KEYFLEET_HOSTS=${KEYFLEET_HOSTS:-$BUILD/molecule}
export KEYFLEET_DOUBLES=$KEYFLEET_HOSTS-doubles
scratch=$KEYFLEET_HOSTS-run

# The roles are played by the oldest ansible-core, since all other tests play with that of .venv-dev.
need_venv "$BUILD/oldest" oldest

cd "$LINKED"
for scenario in extensions/molecule/*/molecule.yml; do
  scenario=$(basename "${scenario%/molecule.yml}")
  [[ " ${alone[*]} ${above[*]} " == *" $scenario "* ]] || die "Scenario $scenario is in no list of tools/stages/molecule.sh."
done
wanted=" ${*:-${alone[*]} ${above[*]}} "

# run COMMAND SCENARIO: molecule keeps in a folder of the scenario's own how far it came.
run() {
  export MOLECULE_EPHEMERAL_DIRECTORY=$scratch/$2
  PATH=$BUILD/oldest/bin:$PATH molecule "$1" --scenario-name "$2"
}

# bare_hosts RELEASE...
bare_hosts() {
  "$ROOT/tools/hosts.sh" down
  "$ROOT/tools/hosts.sh" up --hosts $# --debian "$(IFS=, && echo "$*")"
}

# each COMMAND SCENARIO...: those of them that are wanted.
each() {
  local command=$1 scenario
  shift
  for scenario; do
    [[ $wanted != *" $scenario "* ]] || run "$command" "$scenario"
  done
}

any() {
  local scenario
  for scenario; do
    [[ $wanted != *" $scenario "* ]] || return 0
  done
  return 1
}

rm -rf "$scratch"
trap '"$ROOT/tools/hosts.sh" down' EXIT
if any "${alone[@]}"; then
  bare_hosts trixie
  each test "${alone[@]}"
fi
if any "${above[@]}"; then
  for version in 5.26.0 5.27.0; do
    python tests/doubles/build.py --out "$KEYFLEET_DOUBLES/$version" --kms-version "$version"
  done
  bare_hosts bookworm trixie
  each check "${above[@]}"
  each test "${above[@]}"
fi
