#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -e

# On an upgrade, too, where it is the old package's: the server is off then, and stays off after the next start of the host.
if [ "$1" = upgrade ] || [ "$1" = remove ]; then
  systemctl stop cosmian_kms.service || true
  systemctl disable cosmian_kms.service || true
fi
systemctl daemon-reload
