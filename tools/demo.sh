#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The quickstart, from nothing: a virtual environment, SoftHSM2, the playbook, and the health service for a moment.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scratch=$(realpath -m "${KEYFLEET_SCRATCH:-$ROOT/.demo}")

need_packages softhsm2
need_venv "$ROOT/.venv" demo
link_collection

export ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false ANSIBLE_DISPLAY_SKIPPED_HOSTS=false
cd "$ROOT"
# As a table, and not as the JSON that a task would show.
"$ROOT/.venv/bin/ansible-playbook" playbooks/quickstart.yml --skip-tags show --extra-vars "$(printf '{"scratch": "%s"}' "$scratch")" "$@"
[[ ! -f $scratch/summary.txt ]] || cat "$scratch/summary.txt"
[[ ! -f $scratch/registry.db ]] || PYTHONPATH=$BUILD/collections:$ROOT/roles/gateway/files "$ROOT/.venv/bin/python" tools/demo_health.py "$scratch"
