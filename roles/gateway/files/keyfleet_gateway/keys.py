# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copy of the host's registry says about keys: how many, how old, and when the next is due."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.generations import split_label
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import ACTIVE
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, InstanceRecord, VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import groups, virtual_keys
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances as table
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database

from .config import Rotation
from .memory import RUN


@dataclass(frozen=True)
class Facts:
    """``counts`` by instance, token, type and state. ``oldest_active`` by instance and token, and ``rotations`` by instance, group and
    label, are seconds since 1970. ``groups`` with several members have the instance and the token of each. ``readable`` is None where
    there is no registry to read. ``copied`` is when the copy was made, in seconds since 1970.
    """

    counts: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    oldest_active: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rotations: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    groups: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    readable: bool | None = None
    copied: float | None = None


def seconds_of(moment: str) -> float:
    """A registry's moment in seconds since 1970."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def read_facts(path: str | None, rotations: Sequence[Rotation]) -> Facts:
    """Asks no HSM. A registry that cannot be read is told as such."""
    if path is None:
        return Facts()
    try:
        copied = os.stat(path).st_mtime  # before it is read: the next copy is another file
        with open_database(path, run=RUN, check_mode=True) as database:
            known = table.all_instances(database)
            all_groups = groups.all_groups(database)
            tokens = [token.id for instance in known for token in instance.tokens if token.id is not None]
            keys = virtual_keys.of_tokens(database, tokens)
    except (KeyfleetError, OSError):
        return Facts(readable=False)
    return replace(facts_of(known, all_groups, keys, rotations), copied=copied)


def facts_of(
    known: Iterable[InstanceRecord], all_groups: Sequence[GroupRecord], keys: Iterable[VirtualKey], rotations: Sequence[Rotation]
) -> Facts:
    """Worked out from plain values."""
    owners = {token.id: (instance.name, token.named()) for instance in known for token in instance.tokens if token.id is not None}
    groups_by_id = {group.id: group.name for group in all_groups}
    members = {group.name: [owners[member] for member in group.members] for group in all_groups if len(group.members) > 1}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    oldest: dict[tuple[str, str], float] = {}
    newest: dict[tuple[str, str, str], float] = {}
    for key in keys:
        instance, token = owners[key.token_id]
        counts[(instance, token, key.type, key.state)] += 1
        moment = key.made_at or key.created_at
        if key.state != ACTIVE or moment is None:
            continue
        made = seconds_of(moment)
        oldest[(instance, token)] = min(made, oldest.get((instance, token), made))
        label = split_label(key.label)[0] if key.generation > 1 else key.label
        group = groups_by_id.get(key.group_id or "", "")
        for place in ((instance, "", label), ("", group, label)):
            newest[place] = max(made, newest.get(place, made))
    wanted = {(one.instance or "", one.group or "", one.label): one.max_age for one in rotations}
    due = {place: newest[place] + age for place, age in wanted.items() if place in newest}
    return Facts(dict(counts), oldest, due, members, True)
