#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -e

# Two copies at every installation, and nobody ever removes them. What the file holds, PINs included, stays in them.
if [ -f /etc/cosmian/kms.toml ]; then
  for copy in "/etc/cosmian/$(date +%Y%m%d_%H%M%S)_kms.toml" /etc/cosmian/kms.toml.bak; do
    cp -f /etc/cosmian/kms.toml "$copy"
    chmod 0400 "$copy"
  done
fi
