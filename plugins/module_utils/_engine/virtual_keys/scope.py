# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whose virtual keys a run is about: a group's, or those of one token that are in no group."""

from __future__ import annotations

from ..._model.keys.objects import KeyName
from ..._model.records import GroupRecord, VirtualKey, is_same_token
from ..._model.scope import Scope
from ..._registry import groups, instances, pending_keys, virtual_keys
from ..._registry.database import Database


def token_scope(database: Database, token_id: int | None) -> Scope:
    """The keys of a token that are in no group, and what groups know of the others."""
    if token_id is None:
        return Scope()
    same = _same_token(database, token_id)
    own = [record for record in virtual_keys.of_tokens(database, [token_id]) if record.group_id is None]
    claims = _claims(database, same, None)
    of_groups = [record for by_group in claims.values() for record in by_group.values()]
    return Scope(token_id, None, _first_of_each([*own, *of_groups]), claims, _held_back(database), same)


def group_scope(database: Database, group: GroupRecord, token_id: int) -> Scope:
    """The keys of a group, and of the token that serves those that are in no group yet."""
    same = _same_token(database, token_id)
    own = virtual_keys.of_group(database, group.id) if group.id is not None else []
    loose = [record for record in virtual_keys.of_tokens(database, [token_id]) if record.group_id is None]
    claims = _claims(database, same, group.id)
    unfinished = _unfinished(database, [member for member in group.members if member not in same])
    return Scope(
        token_id,
        group,
        _first_of_each([*own, *loose]),
        claims,
        _held_back(database),
        same,
        unfinished,
        pending_keys.of_token(database, token_id),
    )


def _first_of_each(records: list[VirtualKey]) -> tuple[VirtualKey, ...]:
    first: dict[KeyName, VirtualKey] = {}
    for record in records:
        first.setdefault(record.name, record)
    return tuple(first.values())


def _same_token(database: Database, token_id: int) -> frozenset[int]:
    """The rows of this token. Rather one too many: what a group has of its keys is protected through any of them."""
    rows = [(instance, token) for instance in instances.all_instances(database) for token in instance.tokens]
    own = next((row for row in rows if row[1].id == token_id), None)
    same = {row[1].id for row in rows if own is not None and is_same_token(*own, *row, any_model=True)}
    return frozenset({token_id} | {row for row in same if row is not None})


def _claims(database: Database, tokens: frozenset[int], own: str | None) -> dict[KeyName, dict[str, VirtualKey]]:
    found: dict[KeyName, dict[str, VirtualKey]] = {}
    for group in groups.all_groups(database):
        if group.id is None or group.id == own:
            continue
        for record in virtual_keys.of_group(database, group.id):
            if tokens & {record.token_id, *group.members}:
                found.setdefault(record.name, {})[group.name] = record
    return found


def _held_back(database: Database) -> frozenset[str]:
    return frozenset(group.name for group in groups.all_groups(database) if not group.apply_changes)


def _unfinished(database: Database, tokens: list[int]) -> dict[str, str]:
    names = {token.id: f"instance '{i.name}', token '{token.named()}'" for i in instances.all_instances(database) for token in i.tokens}
    return {label: names[token_id] for token_id in tokens for label in pending_keys.of_token(database, token_id)}
