# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What refers to an instance or a token that is to leave the registry, and what becomes of it when it does."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..._model.errors import Refused
from ..._model.keys.states import DESTROYED
from ..._model.quoting import listed
from ..._model.records import TokenRecord, VirtualKey
from ..._registry import groups, references, virtual_keys
from ..._registry.database import Database


@dataclass(frozen=True)
class Reason:
    """Why it may not leave, as a sentence with the way out, and as ``details``."""

    text: str
    details: dict[str, Any]


def reasons_of_files(database: Database, instance_id: str) -> Iterator[Reason]:
    """The files that name the instance and are still there."""
    if files := [path for path in references.of_instance(database, instance_id) if _is_there(path)]:
        yield Reason(f"{' and '.join(files)} refers to it. Render the file without it first (role kms).", {"files": files})


def reasons_of_tokens(database: Database, tokens: Sequence[TokenRecord], *, force: bool) -> Iterator[Reason]:
    """The groups that have one of these tokens, and the virtual keys that were found on one; the latter not with ``force``."""
    token_ids = _ids(tokens)
    if names := groups.of_tokens(database, token_ids):
        text = f"these groups have a connection to it: {listed(names)}. Take it out of those groups first with hsm_group."
        yield Reason(text, {"groups": names})
    if force:
        return
    labels = [_name(key) for key in virtual_keys.of_tokens(database, token_ids) if key.group_id is None]
    if labels:
        refer, those = ("refer", "those keys") if len(labels) > 1 else ("refers", "that key")
        yield Reason(
            f"{_count(labels)} {refer} to it: {listed(labels)}. Make {those} absent first, or say force: true to forget the records (the "
            "keys in the HSM stay).",
            {"virtual_keys": labels},
        )
    if last_found := _of_groups(database, token_ids):
        texts = [f"{_last_found(name, found)}." for name, found in last_found.items()]
        asked = " and ".join(f"group: {name}" for name in last_found)
        way_out = f"Run hsm_sync with {asked} once it is no member. With force: true the records stay the group's all the same."
        yield Reason(" ".join([*texts, way_out]), {"group_keys": last_found})


def _of_groups(database: Database, token_ids: Collection[int]) -> dict[str, list[str]]:
    """By group, its keys that were last found on one of these tokens. What was destroyed is on none."""
    names = {group.id: group.name for group in groups.all_groups(database)}
    found: dict[str, list[str]] = {}
    for key in virtual_keys.of_tokens(database, token_ids):
        if key.group_id is not None and key.state != DESTROYED:
            found.setdefault(names[key.group_id], []).append(_name(key))
    return dict(sorted(found.items()))


def _last_found(group: str, labels: Sequence[str]) -> str:
    return f"{_count(labels)} of group '{group}' {'was' if len(labels) == 1 else 'were'} last found on it: {listed(labels)}"


def _count(labels: Sequence[str]) -> str:
    return "1 virtual key" if len(labels) == 1 else f"{len(labels)} virtual keys"


def _name(key: VirtualKey) -> str:
    return key.label or key.key_id.hex()


def kept_by_groups(database: Database, tokens: Sequence[TokenRecord]) -> list[str]:
    """Of each group whose keys were last found on one of these tokens: that they stay recorded when it leaves."""
    found = _of_groups(database, _ids(tokens))
    return [
        f"{_last_found(name, labels)}. The group keeps what is recorded: run hsm_sync with group: {name}." for name, labels in found.items()
    ]


def let_go(database: Database, tokens: Sequence[TokenRecord]) -> None:
    """The tokens leave the registry, in the caller's transaction. Records of keys in no group go with them.

    Those of a group are the group's, and stay with a member: the last one, which serves last. Nobody has looked whether it has the key,
    and a key that was last found on the member that serves is taken for gone when that one lacks it.
    """
    token_ids = _ids(tokens)
    members = {group.id: [member for member in group.members if member not in token_ids] for group in groups.all_groups(database)}
    for key in virtual_keys.of_tokens(database, token_ids):
        if others := members.get(key.group_id):
            virtual_keys.update(database, _name(key), key.moved_to(others[-1]), "move_key")
    virtual_keys.forget_tokens(database, token_ids)


def described(database: Database, token: TokenRecord) -> dict[str, Any]:
    """A token with the names of its groups, and label and id of those of its keys that no group has: no other member has them. What was
    destroyed is not among them."""
    ids = _ids([token])
    keys = virtual_keys.of_tokens(database, ids)
    return {
        **{name: getattr(token, name) for name in ("label", "serial", "slot", "pin_file")},
        "groups": groups.of_tokens(database, ids),
        "in_no_group": [{"label": key.label, "id": key.key_id.hex()} for key in keys if key.group_id is None and key.state != DESTROYED],
    }


def _ids(tokens: Sequence[TokenRecord]) -> list[int]:
    return [token.id for token in tokens if token.id is not None]


def refuse(what: str, found: Iterable[Reason], **more: Any) -> None:
    """Raise :class:`Refused` with all of the reasons, if there are any. ``more`` goes into its details."""
    reasons = list(found)
    if not reasons:
        return
    details = {name: value for reason in reasons for name, value in reason.details.items()} | more
    raise Refused(f"{what}: refused, {' Also, '.join(reason.text for reason in reasons)}", code="in_use", details=details)


def _is_there(path: str) -> bool:
    """Whether a file that named an instance is still there; when that cannot be told, it counts as there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
