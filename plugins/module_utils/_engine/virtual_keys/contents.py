# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a token holds, and which records may go because it lacks their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..._model.keys.misfits import Misfit
from ..._model.keys.objects import Key
from ..._model.quoting import listed
from ..._model.records import VirtualKey
from ..._model.scope import Scope
from .identity import Fact, facts_of_keys, facts_of_record, marks


@dataclass(frozen=True)
class TokenContents:
    """What was read of a token while it was held. ``pending`` are the labels that a run which was cut off was making on it.
    ``hidden`` says why it may have keys that it does not show, None where it shows all. ``misfits`` are looked for where its instance has
    layout ``eviden``."""

    token: str
    keys: Sequence[Key]
    pending: Collection[str] = ()
    hidden: str | None = None
    misfits: tuple[Misfit, ...] = ()

    def repeated_labels(self) -> set[str]:
        counted = Counter(key.main.label for key in self.keys)
        return {label for label, number in counted.items() if label and number > 1}

    def unfinished(self, key: Key) -> bool:
        """Whether a run that was cut off was making it."""
        return key.main.label in self.pending or key.pair_label in self.pending

    def compared(self, scope: Scope) -> list[Key]:
        """The keys that a group compares with those of its other members: with a name, and not left by a run that was cut off."""
        named = [key for key in self.keys if (key.main.label or key.main.key_id) and not self.unfinished(key)]
        if not scope.only_own:
            return named
        own = {mark for record in scope.records if scope.owns(record) for mark in marks(record)}
        return [key for key in named if not own.isdisjoint(marks(key))]


def prunable(
    missing: Sequence[VirtualKey], here: TokenContents, others: Sequence[TokenContents] | None, where: str
) -> tuple[tuple[VirtualKey, ...], tuple[str, ...]]:
    """The records that nothing speaks for: neither a key nor a run that was cut off, on this token or on another member; and, as
    warnings that begin with ``where``, why others are kept.

    What shares a label, an id or a public key with a record may be its key, also when it has a record of its own by now.
    ``others`` is None where a member could not be read: it may have any of them.
    """
    if not missing:
        return (), ()
    if others is None:
        return (), (f"{where}: nothing was pruned, because a member could not be read and may have the keys that are missing.",)
    if hides := next((contents for contents in (here, *others) if contents.hidden), None):
        return (), (f"{where}: nothing was pruned, because {hides.token} may have the keys that are missing: {hides.hidden}.",)
    pending = {label for contents in (here, *others) for label in contents.pending}
    sides: list[tuple[set[Fact], str]] = [
        (facts_of_keys(here.keys), f"{here.token} has a key with the same label, id or public key"),
        (
            facts_of_keys(key for contents in others for key in contents.keys),
            "another member has it, or a key of that label or id, see members",
        ),
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
    return tuple(gone), tuple(f"{where}: {listed(labels)} not pruned: {reason}." for reason, labels in kept.items())
