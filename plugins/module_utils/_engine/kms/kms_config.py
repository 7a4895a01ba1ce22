# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""kms_config: the file of the Eviden KMS server, made from the declared instances and written in one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..._model.addresses import check_addresses, prefix_of
from ..._model.errors import InputError, KeyfleetError
from ..._model.kms.config import (
    NO_LOGIN,
    Served,
    admin_warnings,
    document,
    prefix_by_name,
    registry_moves,
    served_slots,
    slot_moves,
    slot_prefixes,
)
from ..._model.kms.losses import Referred, check_losses
from ..._model.kms.masking import masked_pair
from ..._model.kms.names import BUILT_IN, Names, name_problems
from ..._model.kms.request import KmsConfigRequest
from ..._model.kms.served_keys import WrappingKey, wrapping_key
from ..._model.plan import Context, Outcome
from ..._model.records import InstanceRecord
from ..._model.toml_values import same
from ..._registry import events, groups, references, virtual_keys
from ..._registry import instances as table
from ..._registry.database import Database, open_database, registry_exists
from ..files.toml_text import parse, render
from ..files.writing import replacing
from . import tokens as kms_tokens
from .existing import Existing, read_existing
from .file_probe import probe_file
from .proof import prove
from .server_names import server_names
from .tokens import Password
from .unit import unit_needs, unit_problems, unwritable_tokens

MODE = 0o400  # as the server's package ships it
_BANNER = "# Written by keyfleet.hsm.kms_config from hsm_instances. A change by hand is undone by the next run.\n"


@dataclass(frozen=True)
class _Registered:
    """The registered instances, the ids of those that the file named when it was written last, and what refers to their tokens."""

    instances: Sequence[InstanceRecord] = ()
    named: frozenset[str] | set[str] = frozenset()
    tokens: Sequence[Referred] = ()


def converge(request: KmsConfigRequest, context: Context) -> Outcome:
    """kms_config. Raises :class:`KeyfleetError`: nothing was written."""
    if request.state == "probed":
        return probe_file(request, _passwords(request, BUILT_IN, context), context)
    path = request.config_path
    names = server_names(request.server_path, context)
    pins = _passwords(request, names, context)
    existing = read_existing(path)
    instances = kms_tokens.serve(request.instances, pins, context)
    kek = _check_served(request, instances)
    wanted = document(request.settings, instances)
    registered = _registered(request, context)
    known = registered.instances
    _check_moves(request, existing, instances, known)
    check_losses(registered.tokens, _slots(request, existing), instances, request.absent)
    _warn(request, existing, instances, known, context)
    changed = existing is None or existing.mode != MODE or not same(existing.document, wanted)
    # Outside check mode every slot is a number by now.
    text = _BANNER + render(wanted)
    if not context.check_mode and not same(parse(text), wanted):
        raise KeyfleetError(
            "the configuration does not read back as it was written, please report it; nothing was changed.",
            code="render_failed",
        )
    # The last that can refuse: whatever else is wrong costs no PIN attempt.
    proof = prove(request, instances, pins, kek, context, old_server=names.is_old)
    recorded = not known or registered.named == _identities(known, instances)
    if not context.check_mode and (changed or not recorded):
        _write(request, context, existing, instances, text if changed else None)
    addresses = prefix_by_name(instances)
    values = {
        "config_path": path,
        "differs": changed,
        "recorded": recorded,
        "complete": proof.complete and all(None not in instance.slots and all(instance.passwords) for instance in instances),
        "proven": proof.proven,
        "sharing": proof.sharing,
        "opened": _opened(instances, addresses),
        "unit": unit_needs(request.settings, instances),
        "instances": [
            {
                "name": instance.spec.name,
                "prefix": addresses[instance.spec.name],
                "model": instance.spec.model,
                "slots": list(instance.slots),
            }
            for instance in instances
        ],
    }
    return Outcome(changed=changed, diff=_diff(path, existing, wanted, changed), values=values)


def _opened(instances: Sequence[Served], addresses: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The slots whose PINs were proven, in the form of ``probed``."""
    return [
        {
            "prefix": addresses[instance.spec.name],
            "model": instance.spec.model,
            "slots": [
                {"slot_id": slot, "accessible": True, "login": password != NO_LOGIN}
                for slot, password in zip(instance.slots, instance.passwords, strict=True)
                if slot is not None and password
            ],
        }
        for instance in instances
    ]


def _passwords(request: KmsConfigRequest, names: Names, context: Context) -> dict[str, tuple[Password, ...]]:
    """The PINs by instance. Raises what is wrong with them, and :class:`InputError` with every problem of the request."""
    pins, errors = kms_tokens.passwords(request.instances, context)
    problems = [*request.problems, *_name_problems(request, names, context), *unit_problems(request)]
    if not problems and len(errors) == 1:
        raise errors[0]
    if problems or errors:
        raise InputError([*problems, *(error.message for error in errors)])
    return pins


def _name_problems(request: KmsConfigRequest, known: Names, context: Context) -> list[str]:
    """The settings that the server does not know. One that is let through all the same gives a warning."""
    for name in request.settings_unchecked:
        if name in request.settings and name not in known:
            context.warn(f"settings.{name}: is not checked, by settings_unchecked. A server that does not know it ignores it silently.")
    return name_problems(request.settings, known, request.settings_unchecked)


def _check_served(request: KmsConfigRequest, instances: Sequence[Served]) -> WrappingKey | None:
    """The key that wraps the database's keys, where an HSM has it. Raises :class:`InputError` for what is known once the slots are."""
    kek, problem = wrapping_key(request.settings, instances)
    problems = [problem] if problem else []
    if request.packaged_unit:
        problems += unwritable_tokens(instances)
    if problems:
        raise InputError(problems)
    return kek


def _registered(request: KmsConfigRequest, context: Context) -> _Registered:
    if not registry_exists(request.registry):
        return _Registered()
    # A copy in memory: looking leaves no trace.
    with open_database(request.registry, run=context.run, check_mode=True) as database:
        return _read(database, request.config_path)


def _read(database: Database, path: str) -> _Registered:
    known, named = table.all_instances(database), references.of_path(database, path)
    tokens = []
    for record in known:
        for token in record.tokens:
            ids = [token.id] if token.id is not None else []
            keys = [key.label for key in virtual_keys.of_tokens(database, ids)]
            tokens.append(Referred(record.name, record.model, token, record.id in named, groups.of_tokens(database, ids), keys))
    return _Registered(known, named, tokens)


def _identities(known: Sequence[InstanceRecord], instances: Sequence[Served]) -> set[str]:
    names = {instance.spec.name for instance in instances}
    return {record.id for record in known if record.name in names and record.id is not None}


def _check_moves(
    request: KmsConfigRequest, existing: Existing | None, instances: Sequence[Served], known: Sequence[InstanceRecord]
) -> None:
    """Refuse what would re-address stored UIDs, by the file that the server has now and by the registry."""
    moved = registry_moves(prefix_of(known), prefix_by_name(instances))
    if existing is not None:
        moved += slot_moves(slot_prefixes(existing.document, request.config_path), served_slots(instances))
    check_addresses(moved, allowed=request.allow_renumber)


def _slots(request: KmsConfigRequest, existing: Existing | None) -> set[tuple[str, int]]:
    """Model and slot of all that the file serves now."""
    found = slot_prefixes(existing.document, request.config_path) if existing is not None else []
    return {(model, slot) for model, slot, _prefix in found}


def _warn(
    request: KmsConfigRequest,
    existing: Existing | None,
    instances: Sequence[Served],
    known: Sequence[InstanceRecord],
    context: Context,
) -> None:
    for warning in admin_warnings(instances, request.settings):
        context.warn(warning)
    if not instances:
        context.warn("instances: is empty, so the server will serve no HSM.")
    if existing is not None and existing.mode & 0o077:
        context.warn(
            f"config_path: {request.config_path} had mode {existing.mode:04o}, so others could read what it held. "
            "Change its PINs and passwords if they may have."
        )
    if not context.check_mode and not registry_exists(request.registry):
        context.warn(
            f"registry: there is none at {request.registry}, so the prefixes were not compared with it, and hsm_instance cannot "
            "keep what the file refers to."
        )
    names = {record.name for record in known}
    strangers = [instance.spec.name for instance in instances if instance.spec.name not in names]
    if known and strangers and not context.check_mode:
        context.warn(
            f"registry: {request.registry} does not know {', '.join(repr(name) for name in strangers)}, so hsm_instance cannot "
            "keep what the file refers to. Register it with hsm_instance."
        )


@contextmanager
def _file(path: str, text: str | None) -> Iterator[None]:
    """The file, written beside ``path`` before the body and put in its place after it. ``text`` is None where nothing is written."""
    try:
        with replacing(path, text.encode("utf-8"), MODE) if text is not None else nullcontext():
            yield
    except OSError as error:
        raise KeyfleetError(
            f"config_path: {path} cannot be written: {error.strerror}. Nothing was changed. Run as a user who may "
            "(become: true), or give another path.",
            code="config_unwritable",
        ) from None


def _write(request: KmsConfigRequest, context: Context, existing: Existing | None, instances: Sequence[Served], text: str | None) -> None:
    """The file, and which instances it names. All that a full disk can stop comes before the file is in its place; a crash between the
    two is mended by the next run."""
    path = request.config_path
    if not registry_exists(request.registry):
        with _file(path, text):
            return
    with open_database(request.registry, run=context.run) as database, _file(path, text), database.transaction():
        # Looked at again under the write lock: from now on no instance is removed that the file will name.
        registered = _read(database, path)
        known = registered.instances
        moved = registry_moves(prefix_of(known), prefix_by_name(instances))
        check_addresses(moved, allowed=request.allow_renumber)
        check_losses(registered.tokens, _slots(request, existing), instances, request.absent)
        references.replace(database, path, _identities(known, instances))
        if text is not None:
            events.record(database, "write_config", path, instances=[instance.spec.name for instance in instances])


def _diff(path: str, existing: Existing | None, wanted: dict[str, Any], changed: bool) -> dict[str, Any]:
    """Both states as TOML without secrets. The first line carries the mode, which is part of what is kept."""
    before, after = masked_pair(existing.document if existing else None, wanted)
    new = _shown(path, MODE, after)
    # Equal documents may differ in the order of keys, which is no change.
    old = new if not changed else "" if existing is None or before is None else _shown(path, existing.mode, before)
    return {"before": old, "after": new, "before_header": path, "after_header": path}


def _shown(path: str, mode: int, masked: dict[str, Any]) -> str:
    return f"# {path}, mode {mode:04o}, secrets not shown\n{render(masked)}"
