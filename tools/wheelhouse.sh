#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The wheels that the roles runtime and gateway put on the test hosts, in .build/wheelhouse: fetched once, and again when a list changes.
# For the Pythons of Debian 12 and 13 on this machine's architecture, with the command of docs/runtime.md.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wheelhouse=$BUILD/wheelhouse
requirements=("$ROOT/roles/runtime/files/requirements.txt" "$ROOT/roles/gateway/files/health_requirements.txt")
machine=$(uname -m)
pythons=(3.11 3.13)

mkdir -p "$BUILD"
# Two stages at the same moment: one fetches, the other waits and finds it done.
exec {lock}>"$BUILD/wheelhouse.lock"
flock "$lock"

stamp=$(echo "$machine ${pythons[*]}" && cat "${requirements[@]}")
[[ -f $wheelhouse/stamp.txt && $(<"$wheelhouse/stamp.txt") == "$stamp" ]] && exit

echo "Fetching wheels into ${wheelhouse#"$ROOT/"}"
fresh=$wheelhouse.new
rm -rf "$fresh"
for python in "${pythons[@]}"; do
  python -m pip download --quiet --only-binary=:all: --dest "$fresh" --python-version "$python" \
    --platform "manylinux_2_34_$machine" --platform "manylinux_2_28_$machine" --platform "manylinux2014_$machine" \
    "${requirements[@]/#/--requirement=}"
done
echo "$stamp" >"$fresh/stamp.txt"
rm -rf "$wheelhouse"
mv "$fresh" "$wheelhouse"
