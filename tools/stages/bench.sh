#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Options in BENCH_ARGS: --quick, --full, --sync, --network, --peer, --payload, --rounds N.
# --peer wants KEYFLEET_TOFU and KEYFLEET_TOFU_PROVIDER, which name two binaries.

read -ra args <<<"${BENCH_ARGS:-}"
export PYTHONPATH=$BUILD/collections:$ROOT/tests:$ROOT/tests/support
exec python -m bench "${args[@]}"
