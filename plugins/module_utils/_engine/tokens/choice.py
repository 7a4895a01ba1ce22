# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token of which instance a task means, by the registry alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..._model.errors import InputError, TokenError
from ..._model.records import InstanceRecord, TokenRecord
from ..._model.tokens.selectors import TokenSelector

# In check mode these may be what an earlier task of the same play would have registered.
NOT_YET_REGISTERED = ("registry_missing", "no_instance", "token_not_declared", "no_group")


def connection_problems(params: Mapping[str, Any]) -> list[str]:
    """What is wrong with ``instance``, ``group``, ``library``, ``token_label``, ``token_serial``, ``slot``, ``pin`` and ``pin_file``."""
    problems: list[str] = []
    instance, group, library = params.get("instance"), params.get("group"), params.get("library")
    selected = [name for name in ("token_label", "token_serial", "slot") if params.get(name) is not None]
    if sum(map(bool, (instance, group, library))) != 1:
        ways = "instance or group" if "group" in params else "instance"
        direct = ", or library with one of token_label, token_serial, slot" if "library" in params else ""
        problems.append(f"instance: give either {ways}{direct}")
    elif group and selected:
        problems.append(f"{selected[0]}: a group's connections say which tokens serve it: leave it out, or give instance")
    elif library:
        if not PurePosixPath(library).is_absolute():
            problems.append(f"library: {library!r} is not an absolute path on the target")
        problems += TokenSelector.parse(params, "library", prefix="token_")[1]
    elif selected:
        problems += TokenSelector.parse(params, "instance", prefix="token_")[1]
    if (instance or group) and params.get("environment"):
        problems.append("environment: belongs to library; an instance has its own, which hsm_instance keeps")
    if params.get("pin") and params.get("pin_file"):
        problems.append("pin: give pin or pin_file, not both")
    if params.get("pin_file") and not PurePosixPath(params["pin_file"]).is_absolute():
        problems.append(f"pin_file: {params['pin_file']!r} is not an absolute path on the target")
    return problems


def check_connection(params: Mapping[str, Any]) -> None:
    if problems := connection_problems(params):
        raise InputError(problems)


def find_instance(known: Sequence[InstanceRecord], name: str, registry: str) -> InstanceRecord:
    """The instance called ``name``. Raises :class:`TokenError` that lists those there are."""
    for record in known:
        if record.name == name:
            return record
    names = ", ".join(f"'{record.name}'" for record in known) or "none"
    raise TokenError(
        f"instance: there is no instance '{name}' in {registry}; registered: {names}. Register it with hsm_instance first.",
        code="no_instance",
        details={"registered": [record.name for record in known]},
    )


def _answers(token: TokenRecord, selector: TokenSelector) -> bool:
    seen = {"label": token.label, "serial": token.serial, "slot": token.slot}[selector.kind]
    return seen == selector.value or token.selector == selector


def chosen_tokens(record: InstanceRecord, params: Mapping[str, Any]) -> list[TokenRecord]:
    """The tokens of ``record`` that the task's selector names; all of them without one. Raises :class:`TokenError`."""
    tokens = list(record.tokens)
    if any(params.get(name) is not None for name in ("token_label", "token_serial", "slot")):
        selector, _problems = TokenSelector.parse(params, "instance", prefix="token_")
        tokens = [token for token in tokens if selector is not None and _answers(token, selector)]
        if len(tokens) != 1:
            option = "slot" if selector is None or selector.kind == "slot" else f"token_{selector.kind}"
            raise TokenError(
                f"{option}: instance '{record.name}' has {len(tokens) or 'no'} token with {selector}; it has {_listed(record)}.",
                code="token_not_declared",
            )
    for token in tokens:
        if token.user_type == "so":
            raise TokenError(
                f"token '{token.named()}' of instance '{record.name}' is registered with user_type: so, and the security officer sees "
                "no private keys. Register it with the user's PIN.",
                code="login_needed",
            )
    return tokens


def _listed(record: InstanceRecord) -> str:
    return ", ".join(f"'{token.named()}'" for token in record.tokens) or "no tokens"
