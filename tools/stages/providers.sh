#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$ROOT/tools/for_hosts.sh"

# Every provider on a host with Debian 12, and Kryoptic on one with Debian 13 where KEYFLEET_KRYOPTIC names its library.
# Options in PROVIDERS_ARGS: --only WORD, --page.

read -ra args <<<"${PROVIDERS_ARGS:-}"
export KEYFLEET_HOSTS=$BUILD/providers
export PYTHONPATH=$ROOT/tests:$ROOT/tests/support
cd "$LINKED"
trap '"$ROOT/tools/hosts.sh" down' EXIT
"$ROOT/tools/hosts.sh" down
if [[ -n ${KEYFLEET_KRYOPTIC:-} ]]; then
  "$ROOT/tools/hosts.sh" up --hosts 2 --debian bookworm,trixie
else
  "$ROOT/tools/hosts.sh" up --hosts 1 --debian bookworm
fi
python -m providers --inventory "$KEYFLEET_HOSTS/inventory.yml" "${args[@]}"
