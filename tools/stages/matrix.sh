#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/cores.sh"

# ansible-test sanity and the plain-value tests on every ansible-core from the lowest on, and on every Python here that it takes.
# MATRIX_CORE=2.18 and MATRIX_PYTHON=3.11 take one of each alone.

left_out=$CORES/left-out.txt
mkdir -p "$CORES"
pairs=$(cores all 2>"$left_out") || die "$(<"$left_out")"
if [[ -n ${MATRIX_CORE:-} || -n ${MATRIX_PYTHON:-} ]]; then
  pairs=$(grep -E "^${MATRIX_CORE:-[0-9.]+}\.[0-9]+ ${MATRIX_PYTHON:-[0-9.]+} " <<<"$pairs") ||
    die "There is no ansible-core ${MATRIX_CORE:-} on Python ${MATRIX_PYTHON:-} here."
fi
copy_collection
export HYPOTHESIS_STORAGE_DIRECTORY=$BUILD/hypothesis

failed=()
while read -r core python interpreter <&3; do
  printf '\n--> ansible-core %s on Python %s\n' "$core" "$python"
  # In the background, since set -e is without effect in what || follows.
  {
    need_core "$core" "$python" "$interpreter"
    sanity "$venv"
    "$venv/bin/python" -m pytest tests/unit
  } </dev/null &
  wait $! || failed+=("ansible-core $core on Python $python")
done 3<<<"$pairs"

printf '\n'
cat "$left_out"
if ((${#failed[@]})); then
  die "$(printf 'failed: %s\n' "${failed[@]}")"
fi
sed -E 's/^(\S+) (\S+) .*/passed: ansible-core \1 on Python \2/' <<<"$pairs"
