# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a sync makes of the keys of one token and the records of a scope: worked out before anything is written, and changed by nobody."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..._model.keys.objects import Key, KeyName
from ..._model.keys.states import RETIRED
from ..._model.quoting import listed
from ..._model.records import VirtualKey, virtual_of
from ..._model.scope import Scope
from ..virtual_keys.comparison import Comparison, Match, compare
from ..virtual_keys.contents import TokenContents, prunable

_IDENTITY = {"id", "label", "kind", "type", "fingerprint"}  # of a drift
_NAMES = {"id": "key_id", "label": "label"}  # what can be restored, and the field of a record that has it


class Change(NamedTuple):
    """A record as it is and as it will be, and its key. ``restored`` holds (field, recorded, found)."""

    before: VirtualKey
    after: VirtualKey
    key: Key
    restored: tuple[tuple[str, Any, Any], ...] = ()


@dataclass(frozen=True)
class RecordChanges:
    """Records that are made, changed and removed: as planned, or as a run has written them.

    ``adopted`` are in no group, and become the group's; ``moved`` are found on another token from now on.
    """

    added: tuple[Match, ...] = ()
    adopted: tuple[Change, ...] = ()
    refreshed: tuple[Change, ...] = ()
    moved: tuple[Change, ...] = ()
    pruned: tuple[VirtualKey, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.added or self.of_records)

    @property
    def of_records(self) -> bool:
        """Whether there are any that change or remove a record which is there."""
        return bool(self.adopted or self.refreshed or self.moved or self.pruned)

    @property
    def new(self) -> list[VirtualKey]:
        """What the scope lacked: records that are made, and those that it takes over."""
        return [*(match.record for match in self.added), *(change.before for change in self.adopted)]

    @property
    def restored(self) -> list[Change]:
        return [change for change in (*self.refreshed, *self.adopted) if change.restored]


@dataclass(frozen=True)
class SyncPlan:
    """What one token, or the member of a group that serves, makes of the records of a scope.

    ``taken_over`` are the records in no group that become the group's, with their keys. ``known`` are the keys that have a
    record, here or in a group. ``gone`` are the missing ones that no token has, as far as that can be told.
    """

    scope: Scope
    contents: TokenContents
    comparison: Comparison
    taken_over: tuple[Match, ...]
    known: int
    gone: tuple[VirtualKey, ...]
    changes: RecordChanges
    warnings: tuple[str, ...]

    @property
    def missing(self) -> tuple[VirtualKey, ...]:
        return self.comparison.missing

    @property
    def drifted(self) -> list[Match]:
        return [match for match in (*self.comparison.matches, *self.taken_over) if match.drift]

    @property
    def proven(self) -> set[KeyName]:
        """The names of records whose key was found under them, and is the one that was recorded as far as that can be told."""
        found = [*self.changes.added, *self.comparison.matches, *self.taken_over]
        of_groups = [key.name for key in self.comparison.added] if self.scope.group is None else []
        return {*of_groups, *(match.record.name for match in found if not any(entry[0] in _IDENTITY for entry in match.drift))}


def plan_sync(
    contents: TokenContents,
    scope: Scope,
    *,
    refresh: Collection[str] = (),
    prune: bool = False,
    others: Sequence[TokenContents] | None = (),
    elsewhere: Sequence[tuple[int, TokenContents]] = (),
    claimed: Callable[[VirtualKey], bool] = lambda record: False,
) -> SyncPlan:
    """What the keys of one token make of the scope's records.

    ``refresh`` says which of ``id`` and ``label`` is restored in the records. ``others`` is what the other members of the group
    hold, None where one of them could not be read; ``elsewhere`` the same by token, of those that could. ``claimed``: whether a key, by
    the record that it would get, is one of a group that takes only its own.
    """
    keys, nameless, warnings = _addressable(contents)
    comparison = compare(keys, [record for record in scope.records if scope.owns(record)], nameless)
    loose = [record for record in scope.records if not scope.owns(record)]
    new: tuple[Key, ...] = ()
    taken_over: tuple[Match, ...] = ()
    known = len(comparison.matches)
    left = comparison.nameless
    if scope.group is None:
        of_groups = {record.name for record in loose}
        new = tuple(key for key in comparison.added if key.name not in of_groups)
        known += len(comparison.added) - len(new)
    else:
        found = compare(comparison.added, loose, comparison.nameless)
        new, taken_over, left = found.added, found.matches, found.nameless
        if scope.only_own:
            new = tuple(key for key in new if claimed(virtual_of(key, scope.token_id or 0, "hsm_sync")))
            taken_over, left = tuple(match for match in taken_over if claimed(match.record)), comparison.nameless
    added = tuple(
        Match(replace(virtual_of(key, scope.token_id or 0, "hsm_sync"), group_id=scope.group_id), key)
        for key in new
        if not contents.unfinished(key)
    )
    restored, refused = _restored([*comparison.matches, *taken_over], scope, added, refresh)
    own = len(comparison.matches)
    gone, kept = prunable(comparison.missing, contents, others, f"group '{scope.group_name}'" if scope.group else contents.token)
    adopted = [restored.get(number, Change(match.record, match.record, match.key)) for number, match in enumerate(taken_over, own)]
    changes = RecordChanges(
        added,
        tuple(change._replace(after=replace(change.after, group_id=scope.group_id)) for change in adopted),
        tuple(change for number, change in restored.items() if number < own),
        (*_moved(comparison.matches, restored, scope), *_moved_elsewhere(comparison.missing, elsewhere, scope)),
        gone if prune else (),
    )
    unfinished = [key.pair_label for key in new if contents.unfinished(key)]
    hidden = [f"{contents.hidden}."] if contents.hidden else []
    told = [*hidden, *warnings, *refused, *_left_out(left, unfinished), *_retired([*added, *taken_over], scope)]
    warnings = [*(f"{contents.token}: {text}" for text in told), *(kept if prune else ())]
    return SyncPlan(scope, contents, comparison, taken_over, known, gone, changes, tuple(warnings))


def _addressable(contents: TokenContents) -> tuple[list[Key], list[Key], list[str]]:
    """Keys that a UID can name, each name once, and those without a name. What is left out is told, not hidden."""
    good: dict[KeyName, Key] = {}
    nameless: list[Key] = []
    repeated: dict[str, None] = {}
    for key in contents.keys:
        if not key.main.key_id and not key.main.label:
            nameless.append(key)
        elif key.name in good:
            repeated[key.main.label] = None
        else:
            good[key.name] = key
    text = f"{listed(list(repeated))} stand there more than once with the same CKA_ID and CKA_LABEL; one record each."
    return list(good.values()), nameless, [text] if repeated else []


def _left_out(nameless: Sequence[Key], unfinished: Sequence[str]) -> Iterator[str]:
    if nameless:
        handles = ", ".join(str(key.main.handle) for key in nameless)
        yield f"{len(nameless)} keys have neither CKA_ID nor CKA_LABEL and cannot be addressed (handles {handles})."
    if unfinished:
        yield f"a run that was cut off was making {listed(unfinished)}: not recorded, run hsm_key with them again."


def _retired(recorded: Iterable[Match], scope: Scope) -> Iterator[str]:
    """What another group has put out of use, and this run records."""
    retired: dict[object, tuple[str, str]] = {}
    for by_group in scope.groups_of.values():
        for group, record in by_group.items():
            if record.state in RETIRED:
                retired |= dict.fromkeys((record.name, record.public_fingerprint), (group, record.state))
    retired.pop(None, None)
    for key, state in ((match.key, match.record.state) for match in recorded):
        found = retired.get(key.name) or retired.get(key.public_fingerprint)
        if found is not None:
            yield (
                f"'{key.main.label}' is recorded as {state}, and group '{found[0]}' has it as {found[1]}: give it its state here too "
                "(hsm_key)."
            )


def _restored(
    matches: Sequence[Match], scope: Scope, added: Iterable[Match], refresh: Collection[str]
) -> tuple[dict[int, Change], list[str]]:
    """What is restored in the records of ``matches``, by number and in an order in which no two have one name at any time; and
    warnings of what is not."""
    wanted: dict[int, Change] = {}
    unnamed = []
    for number, match in enumerate(matches):
        restored = tuple(entry for entry in match.drift if entry[0] in refresh and entry[0] in _NAMES)
        after = replace(match.record, **{_NAMES[name]: getattr(match.key.main, _NAMES[name]) for name, _old, _new in restored})
        if restored and not after.key_id and not after.label:
            unnamed.append(match.record.label)
        elif restored:
            wanted[number] = Change(match.record, after, match.key, restored)
    taken = {record.name for record in scope.records if scope.owns(record)}
    taken |= {match.record.name for match in (*added, *matches)}
    done = _free_names(wanted, taken)
    refused = [change.before.label for number, change in wanted.items() if number not in done]
    warnings = []
    if refused:
        warnings.append(
            f"{listed(refused)} not refreshed, because another record has the name that this would give: restore id and label "
            "together (refresh: [id, label])."
        )
    if unnamed:
        warnings.append(f"{listed(unnamed)} not refreshed: the key has neither CKA_ID nor CKA_LABEL there any more.")
    return done, warnings


def _free_names(wanted: Mapping[int, Change], taken: set[KeyName]) -> dict[int, Change]:
    """Those whose new name is free, or becomes free by one before them."""
    waiting: dict[KeyName, list[int]] = {}
    done: dict[int, Change] = {}
    queue = deque(wanted)
    while queue:
        number = queue.popleft()
        before, after = wanted[number].before.name, wanted[number].after.name
        if after in taken:
            waiting.setdefault(after, []).append(number)
            continue
        taken.discard(before)
        taken.add(after)
        done[number] = wanted[number]
        queue.extend(waiting.pop(before, ()))
    return done


def _moved(matches: Sequence[Match], restored: Mapping[int, Change], scope: Scope) -> Iterator[Change]:
    """Records of a group whose token serves it no more: the key was found on the one that does."""
    for number, match in enumerate(matches):
        record = restored[number].after if number in restored else match.record
        if not scope.is_home(record):
            yield Change(record, record.moved_to(scope.token_id or 0), match.key)


def _moved_elsewhere(missing: Sequence[VirtualKey], elsewhere: Sequence[tuple[int, TokenContents]], scope: Scope) -> Iterator[Change]:
    """The same of keys that the one which serves lacks, and another member has: under the whole name or the public key that is recorded.
    What else is like them there may be another key."""
    homeless = [record for record in missing if not scope.is_home(record)]
    for token_id, contents in elsewhere:
        keys, nameless, _warnings = _addressable(contents)
        found = {match.record.name: match for match in compare(keys, homeless, nameless).matches if _is_the_key(match)}
        yield from (Change(match.record, match.record.moved_to(token_id), match.key) for match in found.values())
        homeless = [record for record in homeless if record.name not in found]


def _is_the_key(match: Match) -> bool:
    public = match.record.public_fingerprint
    return (public is not None and public == match.key.public_fingerprint) or not any(entry[0] in _IDENTITY for entry in match.drift)


def still_due(changes: RecordChanges, scope: Scope, now: Sequence[VirtualKey]) -> tuple[RecordChanges, list[str]]:
    """What of a plan may be written, given all records as they are ``now``: what another run has done meanwhile is left out, for
    the token's lock was given back; and the labels of the records that are left as they are. Those that were to be added have been.
    """
    by_id = {record.id: record for record in now}
    names: dict[KeyName, str | None] = {record.name: record.id for record in now if scope.owns(record)}
    left: list[str] = []

    def may(before: VirtualKey, after: VirtualKey | None = None) -> bool:
        found = by_id.get(before.id)
        same = found is not None and replace(found, key_id=before.key_id, label=before.label, token_id=before.token_id) == before
        if not same or (after is not None and names.get(after.name, before.id) != before.id):
            left.append(before.label)
            return False
        if after is not None:
            if names.get(before.name) == before.id:
                del names[before.name]
            names[after.name] = before.id
        return True

    refreshed = tuple(change for change in changes.refreshed if may(change.before, change.after))
    adopted = tuple(change for change in changes.adopted if may(change.before, change.after))
    refused = {change.before.id for change in changes.refreshed} - {change.before.id for change in refreshed}
    moved = tuple(change for change in changes.moved if change.before.id not in refused and may(change.before))
    pruned = tuple(record for record in changes.pruned if may(record))
    return RecordChanges(changes.added, adopted, refreshed, moved, pruned), left
