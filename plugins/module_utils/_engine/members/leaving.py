# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a group would lose with members that are about to leave it. Reads what was compared, and asks no HSM."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ..._model.errors import InputError, KeyfleetError, is_unreachable
from ..._model.groups.member_comparison import Disagreement
from ..._model.groups.spec import ConnectionSpec
from ..._model.records import GroupRecord, InstanceRecord, VirtualKey
from ..._registry.database import Database
from ..tokens.choice import chosen_tokens, find_instance
from ..virtual_keys.identity import facts_of_keys, facts_of_record
from .comparison import Member, MemberReport
from .repair import Repairs

_ALONE = "no other member is left to have it, and it may not leave its HSM (CKA_EXTRACTABLE is not true)"
_UNREAD = "no member that stays could be read"
_NOWHERE = "it is recorded, and on no member that could be read"
_OTHER, _UNKNOWN = "it is another key than that of this name on the members that stay", "it may be another key than that of this name"
_UNASKED = "no member that stays has it"
# A token that is not the registered one any more, or is empty, has nothing of the group. Any other fault is one to look at.
_EXCHANGED = ("token_changed", "token_not_initialized")


def tokens_of(entries: Sequence[ConnectionSpec], known: Sequence[InstanceRecord], group: GroupRecord, database: Database) -> frozenset[int]:
    """Ids of the group's tokens that are to leave it. Raises :class:`KeyfleetError` for one that is not registered, or not the group's."""
    found: set[int] = set()
    for entry in entries:
        record = find_instance(known, entry.instance, database.path)
        ids = {token.id for token in chosen_tokens(record, entry.selector) if token.id in group.members}
        if not ids:
            text = f"group '{group.name}' has no connection to this token of instance '{record.name}': leave it out"
            raise InputError([f"leaving[{entry.index}]: {text}"])
        found |= {identity for identity in ids if identity is not None}
    return frozenset(found)


def may_be_gone(error: KeyfleetError) -> bool:
    """Whether a member that leaves need not be read: it is not there any more, or was exchanged."""
    return is_unreachable(error) or error.code in _EXCHANGED


def would_be_lost(
    report: MemberReport, missing: Sequence[VirtualKey], repairs: Repairs, leaving: Collection[int], members: int, *, copies: bool
) -> list[dict[str, Any]]:
    """An entry with ``label``, ``id`` and ``reason`` for each key that only members in ``leaving``, ids of tokens, have.

    ``missing`` are the group's records without a key on the member that serves, ``members`` counts all members. With ``copies`` a key
    counts as kept that was copied to a member that stays, or could be to one that is still to come.
    """
    found: dict[tuple[str, str], str] = {}
    for label, key_id, reason in _lost(report, missing, repairs, leaving, members, copies):
        found.setdefault((label, key_id), reason)
    return [{"label": label, "id": key_id, "reason": reason} for (label, key_id), reason in sorted(found.items())]


def _lost(
    report: MemberReport, missing: Sequence[VirtualKey], repairs: Repairs, leaving: Collection[int], members: int, copies: bool
) -> Iterator[tuple[str, str, str]]:
    going = {number for number, member in enumerate(report.members) if member.target.token_id in leaving}
    staying = [member for number, member in enumerate(report.members) if number not in going]
    if not staying:
        reason = _ALONE if members == len(leaving) and copies else _UNREAD if members > len(leaving) else _UNASKED
        for number in going:
            yield from _all_of(report.members[number], reason)
        return
    kept = {(entry["label"], entry["id"]) for entry in repairs.repaired if entry["to"] in [member.shown for member in staying]}
    reasons = {(entry["label"], entry["id"]): entry["reason"] for entry in repairs.not_repaired}
    for row in report.found:
        place = row.label, row.key_id.hex()
        if _only_in(row, going) and place not in kept:
            yield (*place, reasons.get(place, _UNASKED))
        elif going & {*row.different}:
            yield (*place, _OTHER)
        elif going & {*row.unknown}:
            yield (*place, _UNKNOWN)
    if len(going) < len(leaving):
        there = facts_of_keys(key for member in staying for key in member.contents.keys)
        yield from ((key.label, key.key_id.hex(), _NOWHERE) for key in missing if there.isdisjoint(facts_of_record(key)))


def _only_in(row: Disagreement, members: set[int]) -> bool:
    have = {*row.have, *row.twice}
    return bool(have) and have <= members


def _all_of(member: Member, reason: str) -> Iterator[tuple[str, str, str]]:
    for key in member.contents.keys:
        if reason is not _ALONE or key.main.extractable is not True:
            yield key.main.label, key.main.key_id.hex(), reason
