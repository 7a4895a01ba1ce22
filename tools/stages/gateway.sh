#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/for_hosts.sh"

# The open gateway on hosts of its own, with faults and under load. Arguments in GATEWAY_ARGS: those of pytest, for example a file.
# KEYFLEET_KEEP_HOSTS=1 leaves the hosts up, and the next run takes them as they are.

read -ra args <<<"${GATEWAY_ARGS:-tests/gateway}"
export KEYFLEET_HOSTS=${KEYFLEET_HOSTS:-$BUILD/gateway}
export PYTHONPATH=$ROOT/tests/fleet:$ROOT/tests/gateway:$ROOT/tests/support
exec python -m pytest "${args[@]}"
