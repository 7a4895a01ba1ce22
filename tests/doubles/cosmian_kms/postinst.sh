#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -e

# Enabled, not started, and on an upgrade not restarted: the old program goes on.
if [ "$1" = configure ]; then
  systemctl daemon-reload
  systemctl enable cosmian_kms.service
fi
