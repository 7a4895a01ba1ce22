# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Writing what a sync planned into the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from ..._model.grouping import grouped_texts
from ..._model.plan import Context
from ..._model.recall import Memory, Recall, fields_of, plan_recall
from ..._model.records import VirtualKey
from ..._registry import virtual_keys
from ..._registry.database import Database
from ..virtual_keys.addresses import Addresses
from .plan import RecordChanges, SyncPlan, still_due


def write(database: Database, addresses: Addresses, plan: SyncPlan, context: Context) -> RecordChanges:
    """Write the plan in the caller's transaction. Returns what was written; what another run has done meanwhile is left out."""
    changes, scope = plan.changes, plan.scope
    added = virtual_keys.add(database, ((addresses.of(new.record), new.record) for new in changes.added))
    changes = replace(changes, added=tuple(compress(changes.added, added)))
    if not changes.of_records:
        return changes
    of_group = virtual_keys.of_group(database, scope.group_id) if scope.group_id is not None else []
    changes, left = still_due(changes, scope, [*virtual_keys.of_tokens(database, [scope.token_id or 0]), *of_group])
    told = ((label, f"the record of '{label}' was changed by another run meanwhile and left as it is: run again.") for label in left)
    for text in grouped_texts(told):
        context.warn(text)
    for before, after, _key, restored in changes.refreshed:
        details = {name: {"was": old, "is": new} for name, old, new in restored}
        virtual_keys.update(database, addresses.of(before), after, "refresh_key", restored=details)
    for before, after, _key, _restored in changes.adopted:
        virtual_keys.remove(database, addresses.of(before), before, "adopt_key")
        virtual_keys.add(database, [(addresses.of(after), after)])
    for before, after, _key, _restored in changes.moved:
        virtual_keys.update(database, addresses.of(before), after, "move_key", to=addresses.of(after))
    for record in changes.pruned:
        virtual_keys.remove(database, addresses.of(record), record, "prune_key")
    return changes


def recall(database: Database, addresses: Addresses, plan: SyncPlan, records: Sequence[VirtualKey], memory: Memory) -> Recall:
    """Write what the memory tells of the ``records`` of the plan's scope, as they are now, in the caller's transaction."""
    fresh = virtual_keys.untouched(database)
    found = plan_recall(memory, records, there=plan.proven, fresh=fresh, group_id=plan.scope.group_id)
    for before, after in found.changes:
        virtual_keys.update(database, addresses.of(after), after, "recall_key", recalled=fields_of(before, after))
    return found
