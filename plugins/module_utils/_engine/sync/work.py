# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a sync makes of the keys of one token and the records of a scope, before anything is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..._model.keys.objects import Key, KeyName
from ..._model.keys.states import RETIRED
from ..._model.plan import Context
from ..._model.quoting import listed
from ..._model.records import VirtualKey, virtual_of
from ..._model.scope import Scope
from ..virtual_keys.comparison import Comparison, Met, compare
from ..virtual_keys.seen import Seen


class Change(NamedTuple):
    """A record as it is and as it will be. ``restored`` holds (field, recorded, found)."""

    before: VirtualKey
    after: VirtualKey
    restored: Sequence[tuple[str, Any, Any]]


@dataclass
class Work:
    """What one token, or the member of a group that serves, makes of the records of a scope.

    ``taken_over`` are records in no group that become the group's, and their keys; ``adopted`` the same as changes.
    """

    scope: Scope
    seen: Seen
    comparison: Comparison
    added: list[VirtualKey] = field(default_factory=list)
    taken_over: list[Met] = field(default_factory=list)
    adopted: list[Change] = field(default_factory=list)
    known_elsewhere: int = 0
    refreshed: list[Change] = field(default_factory=list)
    moved: list[tuple[VirtualKey, VirtualKey]] = field(default_factory=list)
    pruned: list[VirtualKey] = field(default_factory=list)

    @property
    def new(self) -> list[VirtualKey]:
        """What the scope lacked: records that are made, and those that it takes over."""
        return [*self.added, *(change.before for change in self.adopted)]

    @property
    def drifted(self) -> list[Met]:
        return [met for met in (*self.comparison.met, *self.taken_over) if met.drift]

    @property
    def restored(self) -> list[Change]:
        return [change for change in (*self.refreshed, *self.adopted) if change.restored]

    @property
    def writes(self) -> bool:
        return bool(self.new or self.refreshed or self.moved or self.pruned)


def work_of(seen: Seen, scope: Scope, refresh: Collection[str], context: Context) -> Work:
    """What the keys of one token make of the scope's records."""
    keys, nameless = _addressable(seen, context)
    work = Work(scope, seen, compare(keys, [record for record in scope.records if scope.owns(record)], nameless))
    loose = [record for record in scope.records if not scope.owns(record)]
    left: list[Key] = []
    if scope.group is None:
        of_groups = {record.name for record in loose}
        left = [key for key in work.comparison.added if key.name not in of_groups]
        work.known_elsewhere = len(work.comparison.added) - len(left)
    elif not scope.only_own:
        found = compare(work.comparison.added, loose, work.comparison.nameless)
        left, work.taken_over, work.comparison.nameless = found.added, found.met, found.nameless
    new = [key for key in left if key.main.label not in seen.pending]
    work.added = [replace(virtual_of(key, scope.token_id or 0, "hsm_sync"), group_id=scope.group_id) for key in new]
    _restore(work, refresh, context)
    _tell(work, [key for key in left if key.main.label in seen.pending], context)
    _tell_states(work, new, context)
    return work


def _addressable(seen: Seen, context: Context) -> tuple[list[Key], list[Key]]:
    """Keys that a UID can name, each name once, and those without a name. What is left out is told, not hidden."""
    good: dict[KeyName, Key] = {}
    nameless: list[Key] = []
    repeated: dict[str, None] = {}
    for key in seen.keys:
        if not key.main.key_id and not key.main.label:
            nameless.append(key)
        elif key.name in good:
            repeated[f"'{key.main.label}'"] = None
        else:
            good[key.name] = key
    if repeated:
        context.warn(f"{seen.token}: {', '.join(repeated)} stand there more than once with the same CKA_ID and CKA_LABEL; one record each.")
    return list(good.values()), nameless


def _tell(work: Work, unfinished: Sequence[Key], context: Context) -> None:
    token, nameless = work.seen.token, [str(key.main.handle) for key in work.comparison.nameless]
    if nameless:
        context.warn(
            f"{token}: {len(nameless)} keys have neither CKA_ID nor CKA_LABEL and cannot be addressed (handles {', '.join(nameless)})."
        )
    if unfinished:
        labels = ", ".join(f"'{key.main.label}'" for key in unfinished)
        context.warn(f"{token}: a run that was cut off was making {labels}: not recorded, run hsm_key with them again.")


def _tell_states(work: Work, new: Sequence[Key], context: Context) -> None:
    """What another group has put out of use, and this run records."""
    retired: dict[object, tuple[str, str]] = {}
    for group, record in ((group, record) for by_group in work.scope.groups_of.values() for group, record in by_group.items()):
        if record.state in RETIRED:
            retired |= dict.fromkeys((record.name, record.public_fingerprint), (group, record.state))
    retired.pop(None, None)
    if not retired:
        return
    records = zip(new, work.added, strict=True)
    for key, state in [*((key, record.state) for key, record in records), *((met.key, met.record.state) for met in work.taken_over)]:
        found = retired.get(key.name) or retired.get(key.public_fingerprint)
        if found is not None:
            context.warn(
                f"{work.seen.token}: '{key.main.label}' is recorded as {state}, and group '{found[0]}' has it as {found[1]}: "
                "give it its state here too (hsm_key)."
            )


def _restore(work: Work, refresh: Collection[str], context: Context) -> None:
    """What is restored in the records, in an order in which no two have one name at any time."""
    scope, names = work.scope, {"id": "key_id", "label": "label"}
    wanted: list[tuple[Met, VirtualKey, list[tuple[str, Any, Any]]]] = []
    kept: dict[int, VirtualKey] = {}
    unnamed = []
    for met in (*work.comparison.met, *work.taken_over):
        restored = [entry for entry in met.drift if entry[0] in refresh and entry[0] in names]
        after = replace(met.record, **{names[name]: getattr(met.key.main, names[name]) for name, _old, _new in restored})
        if restored and not after.key_id and not after.label:
            unnamed.append(met.record.label)
        elif restored:
            wanted.append((met, after, restored))
    taken = {record.name for record in scope.records if scope.owns(record)}
    taken |= {record.name for record in work.added} | {met.record.name for met in work.taken_over}
    done, refused = _free_names(wanted, taken)
    token = work.seen.token
    if refused:
        context.warn(
            f"{token}: {listed(refused)} not refreshed, because another record has the name that this would give: restore id and label "
            "together (refresh: [id, label])."
        )
    if unnamed:
        context.warn(f"{token}: {listed(unnamed)} not refreshed: the key has neither CKA_ID nor CKA_LABEL there any more.")
    takeover = {id(met) for met in work.taken_over}
    for met, after, restored in done:
        kept[id(met)] = after
        if id(met) not in takeover:
            work.refreshed.append(Change(met.record, after, restored))
    restored_of = {id(met): restored for met, _after, restored in done}
    work.adopted = [
        Change(met.record, replace(kept.get(id(met), met.record), group_id=scope.group_id), restored_of.get(id(met), ()))
        for met in work.taken_over
    ]
    for met in work.comparison.met:
        record = kept.get(id(met), met.record)
        if not scope.is_home(record):
            work.moved.append((record, replace(record, token_id=scope.token_id or 0)))


Wanted = tuple[Met, VirtualKey, list[tuple[str, Any, Any]]]


def _free_names(wanted: Iterable[Wanted], taken: set[KeyName]) -> tuple[list[Wanted], list[str]]:
    """Those whose new name is free, or becomes free by one before them; and the labels of the others."""
    waiting: dict[KeyName, list[Wanted]] = {}
    done: list[Wanted] = []
    queue = deque(wanted)
    while queue:
        item = queue.popleft()
        before, after = item[0].record.name, item[1].name
        if after in taken:
            waiting.setdefault(after, []).append(item)
            continue
        taken.discard(before)
        taken.add(after)
        done.append(item)
        queue.extend(waiting.pop(before, ()))
    return done, [item[0].record.label for items in waiting.values() for item in items]
