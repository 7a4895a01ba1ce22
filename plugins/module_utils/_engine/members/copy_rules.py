# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which keys are copied from one member to another, and which stay where they are: a copy of one that was compromised or destroyed
would bring it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..._model.groups.member_comparison import Disagreement
from ..._model.keys.objects import KeyName
from ..._model.keys.states import COMPROMISED, DESTROYED
from ..._model.keys.types import PUBLIC, SECRET
from ..._model.records import VirtualKey
from ..._model.scope import Scope
from ..virtual_keys.comparison import Match
from ..virtual_keys.identity import PAIR, Fact, facts

_ENDED = (COMPROMISED, DESTROYED)
_IN_COMMON = {"label": "label", "id": "CKA_ID", "key": "public key", "check": "key check value"}


class CopyRules:
    """What the records say against a copy. ``around`` are the group's scopes on each of its members, ``served`` the numbers of the
    members that serve."""

    def __init__(self, scope: Scope, matches: Iterable[Match], around: Sequence[Scope], served: set[int]) -> None:
        self._served = served
        own = {record.id: record for each in (scope, *around) for record in each.records if each.owns(record)}
        # A record that was met under another name is the record of that key all the same.
        self._state_of = {record.name: record.state for record in own.values()} | {match.key.name: match.record.state for match in matches}
        self._pairs = {record.public_fingerprint for record in own.values()} - {None}
        self._ended: dict[Fact, VirtualKey] = {}
        for record in own.values():
            if record.state in _ENDED:
                value = record.fingerprint if record.kind == SECRET else record.public_fingerprint
                named = facts(record.kind, record.label, record.key_id)
                self._ended |= dict.fromkeys([*named, *_values(record.kind, record.type, value)], record)
        self._elsewhere: dict[object, tuple[str, str]] = {}
        for each in around:
            for where, record in _of_others(each):
                public = record.public_fingerprint
                if record.state in _ENDED:
                    self._elsewhere |= dict.fromkeys((record.name, public) if public else (record.name,), (where, record.state))

    def refusal(self, row: Disagreement) -> str | None:
        """Why a key is not copied; None where it may."""
        if row.kind == PUBLIC:
            return "it is a public key alone"
        names = [(row.kind, key_id, label) for label, key_id in ((row.label, row.key_id), *row.renamed.values())]
        states = {self._state_of[name] for name in names if name in self._state_of}
        if ended := [state for state in _ENDED if state in states]:
            return f"it is {ended[0]}"
        named = [fact for kind, key_id, label in names for fact in facts(kind, label, key_id)]
        for fact in (*named, *_values(row.kind, row.type, row.fingerprint)):
            if (record := self._ended.get(fact)) is not None:
                return f"the group's key '{record.label}', which is {record.state}, has the same {_IN_COMMON[fact[1]]}"
        public = row.fingerprint if row.kind != SECRET else None
        for known_by in (*names, *([public] if public else [])):
            if (found := self._elsewhere.get(known_by)) is not None:
                return f"{found[0]} has it as {found[1]}"
        if not states and public not in self._pairs and not self._served & {*row.have, *row.twice}:
            return "the group has no record of it, so it may have been destroyed on purpose: declare it with hsm_key, or remove it there"
        return None


class Order(NamedTuple):
    """A key of a row, to be copied from one member to another. ``name`` is that on the source."""

    row: Disagreement
    source: int
    lacking: int
    name: KeyName


class Refusal(NamedTuple):
    """Why a key of a row is not copied to a member that lacks it."""

    row: Disagreement
    lacking: int
    reason: str


def plan_copies(found: Iterable[Disagreement], rules: CopyRules) -> tuple[list[Order], list[Refusal]]:
    """What is copied to members that lack it, each key from the first member that has it exactly once; and what is not.

    Orders stand together that have one source and one destination.
    """
    orders: list[Order] = []
    refused: list[Refusal] = []
    for row in found:
        reason = rules.refusal(row) if row.lack else None
        if reason is None and not row.have:
            reason = "no member has it exactly once, so it is not clear which one to copy"
        if reason is not None:
            refused += [Refusal(row, lacking, reason) for lacking in row.lack]
            continue
        source = row.have[0]
        label, key_id = row.renamed.get(source, (row.label, row.key_id))
        orders += [Order(row, source, lacking, (row.kind, key_id, label)) for lacking in row.lack]
    return sorted(orders, key=lambda order: order[1:3]), refused


def _of_others(scope: Scope) -> Iterator[tuple[str, VirtualKey]]:
    """What other groups have of a token's keys, and what is in no group."""
    for by_group in scope.groups_of.values():
        for group, record in by_group.items():
            yield f"group '{group}'", record
    for record in scope.records:
        if not scope.owns(record):
            yield "a record that is in no group", record


def _values(kind: str, type_name: str, fingerprint: str | None) -> list[Fact]:
    if kind != SECRET:
        return facts(PAIR, public=fingerprint)
    return [(kind, "check", (type_name, fingerprint))] if fingerprint is not None else []
