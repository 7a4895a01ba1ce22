#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/for_hosts.sh"

# The tests bring up hosts of their own and take them down. Those of make hosts-up are other hosts and stay.

export KEYFLEET_HOSTS=$BUILD/fleet
export PYTHONPATH=$ROOT/tests/fleet
exec python -m pytest tests/fleet
