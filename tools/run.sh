#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs stages (files of tools/stages) in turn and stops at the first that fails.
# Prints nothing after the last one, so that a run which ends with the tests ends with their closing line.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($#)) || die "usage: run.sh STAGE..."

need_packages git softhsm2 opensc opencryptoki procps gcc libc6-dev
need_venv "$ROOT/.venv-dev" dev
link_collection

export PATH=$ROOT/.venv-dev/bin:$PATH
[[ -t 1 ]] || export NO_COLOR=1
cd "$ROOT"
printf 'ready after %s s\n' "$SECONDS"

number=0
for stage; do
  number=$((number + 1))
  started=$SECONDS
  printf '\n==> %s/%s %s\n' "$number" "$#" "$stage"
  "$ROOT/tools/stages/$stage.sh" || die "==> $stage failed after $((SECONDS - started)) s"
  ((number == $#)) || printf '==> %s passed in %s s (%s s so far)\n' "$stage" "$((SECONDS - started))" "$SECONDS"
done
