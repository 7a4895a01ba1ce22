#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Every scenario of extensions/molecule, each on bare hosts of its own. Arguments: only these scenarios.

export KEYFLEET_HOSTS=${KEYFLEET_HOSTS:-$BUILD/molecule}
export MOLECULE_EPHEMERAL_DIRECTORY=$KEYFLEET_HOSTS-run
"$ROOT/tools/wheelhouse.sh"
export KEYFLEET_WHEELHOUSE=$BUILD/wheelhouse
cd "$LINKED"
if (($# == 0)); then
  set -- extensions/molecule/*/molecule.yml
  set -- "${@%/molecule.yml}"
  set -- "${@##*/}"
fi
for scenario; do
  molecule test --scenario-name "$scenario"
done
