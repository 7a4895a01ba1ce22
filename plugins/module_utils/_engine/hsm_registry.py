# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_registry: look at a registry, save it, put it back. No HSM is asked."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from .._model.errors import Refused, RegistryError
from .._model.plan import Context, Outcome
from .._model.quoting import listed
from .._model.registry_request import ABSENT, REPORTED, RESTORED, RegistryRequest
from .._registry import backup
from .._registry.backup import Contents
from .._registry.database import registry_exists


def converge(request: RegistryRequest, context: Context) -> Outcome:
    """hsm_registry. Raises :class:`KeyfleetError`, and then nothing was changed."""
    if request.state == REPORTED:
        found = _kept(request, context) if request.path else _held(request, context)
        return Outcome(changed=False, values=_values(found))
    if request.state == ABSENT:
        return _remove(request, context)
    return _restore(request, context) if request.state == RESTORED else _save(request, context)


def _held(request: RegistryRequest, context: Context) -> Contents | None:
    """What the registry holds; None where there is none."""
    if not registry_exists(request.registry):
        return None
    with backup.registry_copy(request.registry, run=context.run) as (_copy, contents):
        return contents


def _kept(request: RegistryRequest, context: Context) -> Contents | None:
    """What the backup at ``path`` holds, which is this host's; None where there is none."""
    try:
        with backup.backup_copy(str(request.path)) as (_copy, contents):
            _check_owner(contents, str(request.path), request, context)
            return contents
    except FileNotFoundError:
        return None


def _check_owner(contents: Contents, path: str, request: RegistryRequest, context: Context) -> None:
    """Refuse the backup of another host, and one that has nothing of what this host declares."""
    if request.host and contents.host != request.host:
        raise Refused(
            f"backup {path}: refused, it is the backup of '{contents.host}', and not of '{request.host}'.",
            code="backup_foreign",
            details={"host": contents.host},
        )
    if not request.instances:
        return
    missing = [name for name in request.instances if name not in contents.instances]
    more = [name for name in contents.instances if name not in request.instances]
    if contents.instances and len(missing) == len(request.instances):
        raise Refused(
            f"backup {path}: refused, it has none of the declared instances ({listed(missing)}). It has {listed(more)}.",
            code="backup_foreign",
            details={"declared": list(request.instances), "instances": contents.instances},
        )
    if missing:
        context.warn(f"backup {path}: instances that are declared and not in it: {listed(missing)}.")
    if more:
        context.warn(f"backup {path}: instances that are in it and not declared: {listed(more)}.")


def _save(request: RegistryRequest, context: Context) -> Outcome:
    path = str(request.path)
    before = _kept(request, context)
    try:
        with (
            backup.backup_copy(request.src) if request.src else backup.registry_copy(request.registry, run=context.run) as (copy, contents)
        ):
            changed = before is None or before.digest != contents.digest
            if request.src:
                _check_owner(contents, request.src, request, context)
            else:
                backup.mark(copy, str(request.host))
            if changed and not context.check_mode:
                with backup.writing(copy, path):
                    pass
    except FileNotFoundError:
        raise RegistryError(f"src: there is no backup at {request.src}.", code="backup_missing") from None
    if changed and not context.check_mode:
        contents = _kept(request, context) or contents  # what can be read back is what was saved
    return Outcome(changed, _diff(f"backup {path}", before, contents, changed), _values(contents))


def _restore(request: RegistryRequest, context: Context) -> Outcome:
    path, registry = str(request.path), request.registry
    before = _let_go(request, context)
    try:
        with backup.backup_copy(path) as (connection, contents):
            _check_owner(contents, path, request, context)
            aside = None
            if not context.check_mode:
                backup.unmark(connection)
                with backup.writing(connection, registry):
                    aside = backup.set_aside(registry)
                contents = _held(request, context) or contents
    except FileNotFoundError:
        if not context.check_mode:  # in check mode nobody has copied it to the target yet
            raise RegistryError(f"path: there is no backup at {path}.", code="backup_missing") from None
        return Outcome(changed=True, values=_values(before))
    return Outcome(True, _diff(f"registry {registry}", before, contents, True), {**_values(contents), "set_aside": aside})


def _remove(request: RegistryRequest, context: Context) -> Outcome:
    before, registry = _let_go(request, context), request.registry
    there = os.path.lexists(registry)
    aside = None if context.check_mode else backup.set_aside(registry)
    return Outcome(there, _diff(f"registry {registry}", before, None, there), {**_values(None), "set_aside": aside})


def _let_go(request: RegistryRequest, context: Context) -> Contents | None:
    """What the registry holds that is to make way: nothing, unless ``over`` was said. One that cannot be read holds something."""
    path = request.registry
    try:
        before = _held(request, context)
    except RegistryError as error:
        if not request.over or error.code == "registry_unsafe":
            raise
        context.warn(f"{error.message} It is set aside as it is.")
        return None
    if before is not None and any(before.rows.values()) and not request.over:
        raise Refused(
            f"registry {path}: refused, it is there and holds {before.rows['virtual_key']} virtual keys of the instances "
            f"{listed(before.instances) or 'none'}. Say over: true to set it aside.",
            code="registry_in_place",
            details={"instances": before.instances, "rows": before.rows},
        )
    return before


def _values(contents: Contents | None) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "digest": None,
        "schema": None,
        "rows": {},
        "instances": [],
        "groups": [],
        "newest_event": None,
        "host": None,
    }
    return {"registry": {"exists": contents is not None, **(nothing if contents is None else asdict(contents))}, "set_aside": None}


def _diff(subject: str, before: Contents | None, after: Contents | None, changed: bool) -> dict[str, Any]:
    """By subject, what can be said of all rows: how many there are, and whose."""

    def shown(contents: Contents | None) -> dict[str, Any]:
        if contents is None or not changed:
            return {}
        return {subject: {name: getattr(contents, name) for name in ("rows", "instances", "groups", "newest_event", "digest")}}

    return {"before": shown(before), "after": shown(after)}
