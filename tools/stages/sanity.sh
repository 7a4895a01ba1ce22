#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/cores.sh"

# ansible-test sanity. With the ansible-core of .venv-dev all tests of all files, where modules are imported on the lowest Python here that a
# managed host may have. With the newest ansible-core that a Python here takes all tests of what users get to run, on that Python. The rest
# of both is in make matrix: an import takes twenty seconds for each Python, and pylint more for the tests than for what they test.

# It waits for no clock and no host waits for it: it takes less than the stages beside it, and enough to end when they do. With 10 it
# went on alone, on one core of two, for a fifth of the gate.
renice -n 4 -p $$ >/dev/null

newest=$(cores newest)
copy_collection
own=$("$ROOT/.venv-dev/bin/python" -c 'from ansible.release import __version__; print(__version__)')
printf 'ansible-core %s\n' "$own"
sanity "$ROOT/.venv-dev" --skip-test import
sanity "$ROOT/.venv-dev" --test import --python "$(lowest_python)"

read -r core python interpreter <<<"$newest"
if [[ $core == "$own" ]]; then
  echo "There is no newer ansible-core for a Python on this machine."
  exit
fi
printf 'ansible-core %s on Python %s\n' "$core" "$python"
need_core "$core" "$python" "$interpreter"
find "$COPIED/tests" -mindepth 1 -maxdepth 1 -not -name config.yml -exec rm -r {} +
sanity "$venv" --python "$python"
