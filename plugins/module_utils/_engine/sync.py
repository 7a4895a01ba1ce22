# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_sync: every key of a token that the registry lacks becomes a virtual key. Append-only; what differs is reported."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._cryptoki.objects import read_inventory
from .._model.errors import InputError, KeyfleetError, TokenError
from .._model.key_objects import Key, group_keys
from .._model.records import TokenRecord, VirtualKey
from .._model.uids import uid
from .._registry import instances as table
from .._registry import pending_keys, virtual_keys
from .._registry.database import Database, open_database
from .connection import NOT_YET_REGISTERED, Target, check_connection, chosen_tokens, find_instance, open_target, target_of
from .key_plan import describe_key, virtual_of
from .plan import CREATE, Context, Outcome, Step, diff_of

_Name = tuple[str, bytes, str]


@dataclass
class TokenSync:
    """What one token's keys and records have to do with each other. UIDs are built with the slot of this moment."""

    prefix: str
    slot_id: int
    added: list[Key] = field(default_factory=list)
    known: int = 0
    missing: list[VirtualKey] = field(default_factory=list)
    drift: list[dict[str, Any]] = field(default_factory=list)

    def uid(self, key_id: str) -> str:
        return uid(self.prefix, self.slot_id, key_id)


def compare(sync: TokenSync, keys: Iterable[Key], records: Iterable[VirtualKey]) -> None:
    """Fill ``sync``: which keys are new, known, missing or different.

    A record belongs to the key of the same kind, CKA_ID and CKA_LABEL. What is left over is matched by CKA_ID alone and then
    by CKA_LABEL alone, where that is unambiguous: one of the two was edited, which is drift and no new key.
    """
    open_keys: dict[_Name, Key] = {(key.main.kind, key.main.key_id, key.main.label): key for key in keys}
    open_records = {(record.kind, record.key_id, record.label): record for record in records}
    for name in [name for name in open_records if name in open_keys]:
        _meet(sync, open_keys.pop(name), open_records.pop(name))
    for part in (1, 2):
        pairs = _unambiguous(open_keys, open_records, part)
        for key_name, record_name in pairs:
            _meet(sync, open_keys.pop(key_name), open_records.pop(record_name))
    sync.added.extend(open_keys.values())
    sync.missing.extend(open_records.values())


def _unambiguous(keys: Iterable[_Name], records: Iterable[_Name], part: int) -> list[tuple[_Name, _Name]]:
    """Names that agree in kind and in ``part`` (1: CKA_ID, 2: CKA_LABEL), once on each side, and not empty."""
    sides: list[dict[tuple[str, object], list[_Name]]] = [{}, {}]
    for side, names in zip(sides, (keys, records), strict=True):
        for name in names:
            if name[part]:
                side.setdefault((name[0], name[part]), []).append(name)
    return [(found[0], sides[1][common][0]) for common, found in sides[0].items() if len(found) == len(sides[1].get(common, ())) == 1]


def _meet(sync: TokenSync, key: Key, record: VirtualKey) -> None:
    sync.known += 1
    described = describe_key(key)
    pairs = (
        ("id", record.key_id.hex(), described["id"]),
        ("label", record.label, key.main.label),
        ("type", record.type, described["type"]),
        ("size", record.size, described["size"]),
        ("operations", list(record.operations), described["operations"]),
    )
    address = sync.uid(record.key_id_text)
    sync.drift.extend({"uid": address, "field": name, "virtual": old, "hsm": new} for name, old, new in pairs if old != new)


def converge(params: Mapping[str, Any], context: Context) -> Outcome:
    """hsm_sync. All tokens are read before the first record is written; one that fails ends the run with nothing recorded."""
    check_connection(params)
    try:
        with open_database(params["registry"], run=context.run, check_mode=context.check_mode) as database:
            return _converge(database, params, context)
    except KeyfleetError as error:
        if context.check_mode and error.code in NOT_YET_REGISTERED:
            context.warn(f"{error.message} In check mode there is nothing to compare yet.")
            return _outcome([])
        raise


def _targets(database: Database, params: Mapping[str, Any]) -> list[tuple[TokenRecord, Target]]:
    known = table.all_instances(database)
    record = find_instance(known, params["instance"], database.path)
    tokens = chosen_tokens(record, params)
    if not tokens:
        raise TokenError(f"instance '{record.name}' has no tokens: declare them with hsm_instance.", code="token_not_declared")
    if len(tokens) > 1 and (params.get("pin") or params.get("pin_file")):
        raise InputError([f"pin: instance '{record.name}' has several tokens, and one PIN is not tried on all: say which with token_label"])
    return [(token, target_of(known, record, token, params)) for token in tokens]


def _converge(database: Database, params: Mapping[str, Any], context: Context) -> Outcome:
    found: list[TokenSync] = []
    rows: list[tuple[str, VirtualKey]] = []
    for token, target in _targets(database, params):
        with open_target(target, database, read_write=False, allow_low_pin_count=params["allow_low_pin_count"]) as session:
            keys = group_keys(read_inventory(session).objects)
            sync = TokenSync(prefix=target.prefix or "", slot_id=session.token.slot_id)
            records = virtual_keys.of_tokens(database, [token.id] if token.id is not None else [])
            pending = pending_keys.of_token(database, token.id) if token.id is not None else {}
            compare(sync, _addressable(keys, str(session.token), pending, context), records)
        found.append(sync)
        rows += [(sync.uid(key.key_id_text), virtual_of(key, token.id or 0, "hsm_sync")) for key in sync.added]
    if rows and not context.check_mode:
        with database.transaction():
            virtual_keys.add(database, rows)
    return _outcome(found)


def _addressable(keys: Iterable[Key], token: str, pending: Container[str], context: Context) -> list[Key]:
    """Keys that a UID can name, and that no dead run may have left half made. The others are told, not hidden."""
    good: list[Key] = []
    seen: set[_Name] = set()
    nameless, repeated, unfinished = [], [], []
    for key in keys:
        name = (key.main.kind, key.main.key_id, key.main.label)
        if not key.main.key_id and not key.main.label:
            nameless.append(str(key.main.handle))
        elif key.main.label in pending:
            unfinished.append(f"'{key.main.label}'")
        elif name in seen:
            repeated.append(f"'{key.main.label}'")
        else:
            good.append(key)
        seen.add(name)
    if nameless:
        context.warn(
            f"{token}: {len(nameless)} keys have neither CKA_ID nor CKA_LABEL and cannot be addressed (handles {', '.join(nameless)})."
        )
    if unfinished:
        context.warn(f"{token}: a run that was cut off was making {', '.join(unfinished)}: not recorded, run hsm_key with them again.")
    if repeated:
        context.warn(f"{token}: {', '.join(repeated)} stand there more than once with the same CKA_ID and CKA_LABEL; one record each.")
    return good


def _outcome(syncs: list[TokenSync]) -> Outcome:
    added = [(sync.uid(key.key_id_text), key) for sync in syncs for key in sync.added]
    missing = sorted(sync.uid(record.key_id_text) for sync in syncs for record in sync.missing)
    drift = sorted((entry for sync in syncs for entry in sync.drift), key=lambda entry: (entry["uid"], entry["field"]))
    steps = [Step(CREATE, address, None, describe_key(key)) for address, key in added]
    return Outcome(
        changed=bool(added),
        diff=diff_of(steps),
        values={
            "added": sorted(address for address, _key in added),
            "missing": missing,
            "drift": drift,
            "summary": {
                "added": len(added),
                "known": sum(sync.known for sync in syncs),
                "missing": len(missing),
                "drifted": len({entry["uid"] for entry in drift}),
            },
        },
    )
