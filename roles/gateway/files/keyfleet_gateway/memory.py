# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service knows across its restarts: a registry of its own, with the declared instances and the marks of refused PINs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec, TokenSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry import instances as table
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import Database, open_database

from .config import Config

RUN = "keyfleet-gateway"


def registry_path(config: Config) -> str:
    return os.path.join(config.state, "gateway.db")


def remember(config: Config, path_of: Callable[[str], str]) -> None:
    """Make the registry hold what is declared, in this order. Asks no HSM.

    A token keeps the marks of the PINs that it refused as long as it is declared: a mark is of one state of one PIN file, so another PIN
    is tried all the same. Raises :class:`KeyfleetError`, and :class:`ConfigError` of ``path_of``.
    """
    declared = [_record(spec, path_of) for spec in config.instances]
    with open_database(registry_path(config), run=RUN, create=True) as database:
        known = table.all_instances(database)
        if [_plain(record) for record in known] != [_plain(record) for record in declared]:
            _write(database, known, declared)


def _write(database: Database, known: list[InstanceRecord], declared: list[InstanceRecord]) -> None:
    marks = {_way(record, token): token.refusals for record in known for token in record.tokens}
    with database.transaction(durable=True):
        for record in known:
            table.remove(database, record)
        for record in declared:
            table.save(database, record, "declare")
        for record in table.all_instances(database):
            for token in record.tokens:
                if token.id is not None:
                    table.note_refusals(database, token.id, marks.get(_way(record, token), ()))


def _way(record: InstanceRecord, token: TokenRecord) -> object:
    """What says that a token of two declarations is the same one: not the name of the instance."""
    return record.library, tuple(sorted(record.environment.items())), token.selector


def _record(spec: InstanceSpec, path_of: Callable[[str], str]) -> InstanceRecord:
    return InstanceRecord(
        name=spec.name,
        model=spec.model,
        library=next((path for path in spec.libraries if Path(path).exists()), spec.libraries[0]),
        connection_timeout=spec.connection_timeout,
        environment=spec.environment,
        init_args=spec.init_args,
        os_locking=spec.os_locking,
        tokens=tuple(_token(token, path_of) for token in spec.tokens),
    )


def _token(token: TokenSpec, path_of: Callable[[str], str]) -> TokenRecord:
    kind, value = token.selector.kind, token.selector.value
    return TokenRecord(
        selector=token.selector,
        label=str(value) if kind == "label" else None,
        serial=str(value) if kind == "serial" else None,
        slot=int(value) if kind == "slot" else None,
        login=token.login,
        user_type=token.user_type,
        pin_file=path_of(token.pin_file) if token.pin_file and token.login else None,
    )


def _plain(record: InstanceRecord) -> object:
    """What is declared of it."""
    tokens = [(token.selector, token.login, token.user_type, token.pin_file) for token in record.tokens]
    return record.name, record.model, record.library, record.connection_timeout, record.starting, tokens
