#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The server's binary is named by KEYFLEET_KMS_SERVER. Options in REAL_KMS_ARGS: --only WORD, --page.

[[ -x ${KEYFLEET_KMS_SERVER:-} ]] || die "KEYFLEET_KMS_SERVER has to name the server's binary: CONTRIBUTING.md says how one gets it"
read -ra args <<<"${REAL_KMS_ARGS:-}"
export PYTHONPATH=$BUILD/collections:$ROOT/tests:$ROOT/tests/support
exec python -m real_kms "${args[@]}"
