#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Settings are in .ansible-lint: the profile production and no list of exceptions.

if [[ -e $ROOT/.ansible-lint-ignore ]] || grep -E '^(skip|warn)_list' "$ROOT/.ansible-lint"; then
  die "There is a list of ignored rules. Mend what it hides."
fi

copy_collection
# It asks ansible-playbook for the syntax of each playbook.
start_as_tests
cd "$COPIED"
ansible-lint
