# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a token holds, and which records may go because it lacks their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..._model.keys.objects import Key
from ..._model.plan import Context
from ..._model.quoting import listed
from ..._model.records import VirtualKey
from .identity import Fact, facts_of_keys, facts_of_record


@dataclass(frozen=True)
class Seen:
    """What was read of a token while it was held. ``pending`` are the labels that a run which was cut off was making on it."""

    token: str
    keys: Sequence[Key]
    pending: Collection[str]

    def repeated_labels(self) -> set[str]:
        counted = Counter(key.main.label for key in self.keys)
        return {label for label, number in counted.items() if label and number > 1}


def may_be_pruned(
    missing: Sequence[VirtualKey], here: Seen, others: Sequence[Seen], context: Context | None, group: str | None = None
) -> list[VirtualKey]:
    """The records that nothing speaks for: neither a key nor a run that was cut off, on this token or on another member.

    What shares a label, an id or a public key with a record may be its key, also when it has a record of its own by now.
    """
    if not missing:
        return []
    pending = {label for seen in (here, *others) for label in seen.pending}
    sides: list[tuple[set[Fact], str]] = [
        (facts_of_keys(here.keys), f"{here.token} has a key with the same label, id or public key"),
        (facts_of_keys(key for seen in others for key in seen.keys), "another member has it, or a key of that label or id, see members"),
    ]
    kept: dict[str, list[str]] = {}
    gone: list[VirtualKey] = []
    for record in missing:
        facts = facts_of_record(record)
        reason = next((text for there, text in sides if not there.isdisjoint(facts)), None)
        if record.label in pending:
            reason = "a run that was cut off was at work on it"
        if reason is None:
            gone.append(record)
        else:
            kept.setdefault(reason, []).append(record.label or record.key_id.hex())
    where = f"group '{group}'" if group is not None else here.token
    for reason, labels in kept.items():
        if context is not None:
            context.warn(f"{where}: {listed(labels)} not pruned: {reason}.")
    return gone
