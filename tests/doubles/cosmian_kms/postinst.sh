#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

set -e

if [ "$1" = configure ]; then
  # The file that was there before, over whatever dpkg put there.
  if [ -f /etc/cosmian/kms.toml.bak ]; then
    cp -f /etc/cosmian/kms.toml.bak /etc/cosmian/kms.toml
    chmod 0400 /etc/cosmian/kms.toml
  fi
  systemctl daemon-reload
  # Enabled at the first installation, and never started. On an upgrade it finds that it was disabled, which its own postrm did.
  if [ -z "$2" ]; then
    systemctl enable cosmian_kms.service
  fi
fi
