#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Builds the archive, installs it, and reads every plugin's documentation from what is installed.

dist=$BUILD/dist
installed=$BUILD/installed
export ANSIBLE_COLLECTIONS_PATH=$installed

rm -rf "$dist" "$installed"
mkdir -p "$dist"
ansible-galaxy collection build --output-path "$dist"
ansible-galaxy collection install --offline --no-deps --collections-path "$installed" "$dist"/keyfleet-hsm-*.tar.gz
ansible-galaxy collection verify --offline keyfleet.hsm
source_files >"$dist/sources.txt"
ansible-doc --metadata-dump keyfleet.hsm >"$dist/documentation.json"
python "$ROOT/tools/check_package.py" "$installed/ansible_collections/keyfleet/hsm" \
  "$dist/sources.txt" "$dist/documentation.json"
