#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The quickstart in a new folder, and once more: the second run must find nothing to do.

export KEYFLEET_SCRATCH=$BUILD/quickstart
export ANSIBLE_STDOUT_CALLBACK=default ANSIBLE_NOCOLOR=1

rm -rf "$KEYFLEET_SCRATCH"
"$ROOT/tools/demo.sh"
"$ROOT/tools/demo.sh" | tee "$BUILD/quickstart.log"

recap=$(grep -E '^[^ ]+ +: ok=[0-9]+ ' "$BUILD/quickstart.log") || die "The second run has no recap."
if grep -v ' changed=0 ' <<<"$recap"; then
  die "The second run changed something."
fi
