# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_status: what every registered token answers just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._model.addresses import prefix_of
from .._model.errors import KeyfleetError, Refused, TokenError
from .._model.plan import Context, Outcome
from .._model.records import InstanceRecord, VirtualKey
from .._model.site.undeclared import told
from .._model.status_request import StatusRequest
from .._registry import groups, virtual_keys
from .._registry import instances as table
from .._registry.database import Database, open_database
from .status.gateway import ask_gateway
from .status.holdings import members_of, recorded_keys
from .status.probing import Probed, note_logins, probe_instances
from .tokens.choice import find_instance

_NOTHING: Mapping[str, list[Any]] = {"instances": [], "tokens": [], "groups": []}


def report(request: StatusRequest, context: Context) -> Outcome:
    """hsm_status. Never changes anything; ``require`` decides whether what it found is a failure."""
    try:
        with open_database(request.registry, run=context.run, check_mode=True) as database:
            known, known_groups = table.all_instances(database), groups.all_groups(database)
            records = _records(database, known) if request.order.holdings else []
    except KeyfleetError as error:
        # With nothing to probe there need not be one.
        if error.code != "registry_missing" or not (context.check_mode or request.instances == ()):
            raise
        if request.instances != ():
            context.warn(f"{error.message} In check mode there is nothing to probe yet.")
        known, known_groups, records, request = [], [], [], replace(request, require="none")
    undeclared = request.declared.undeclared(known, known_groups) if request.declared is not None else _NOTHING
    if text := told(undeclared):
        if request.refuses_undeclared:
            raise Refused(f"{text} Declare it, or remove it with state: absent.", code="undeclared", details=dict(undeclared))
        context.warn(text)
    chosen = _chosen(request, known, context)
    _check_expected(request, known, chosen, context)
    probed = probe_instances(known, chosen, request.order)
    # A refused PIN has cost its try in check mode as well.
    note_logins(request.registry, context.run, probed)
    prefixes = prefix_of(known)
    instances = [described(record, prefixes[record.name], slots) for record, slots in probed]
    credentials = [entry for record, slots in probed for entry in _credentials(record, slots)]
    gateway = None
    if request.gateway is not None:
        whole = bool(known) and len(chosen) == len(known)
        gateway = ask_gateway(request.gateway, request.order.timeout, context, instances, whole=whole)
        if gateway["error"]:
            context.warn(f"the gateway's status is not known: {gateway['error']}")
    outcome = _judge(request, probed, gateway)
    outcome.values |= {"instances": instances, "credentials": credentials, "undeclared": undeclared}
    if request.order.holdings:
        names = {group.id: group.name for group in known_groups}
        outcome.values |= {"keys_recorded": recorded_keys(known, names, records), "groups": members_of(known, known_groups)}
    return outcome


def _records(database: Database, known: Sequence[InstanceRecord]) -> list[VirtualKey]:
    return virtual_keys.of_tokens(database, [token.id for instance in known for token in instance.tokens if token.id is not None])


def _chosen(request: StatusRequest, known: list[InstanceRecord], context: Context) -> list[InstanceRecord]:
    if request.instances is None:
        return known
    chosen = []
    for name in request.instances:
        try:
            chosen.append(find_instance(known, name, request.registry))
        except TokenError as error:
            if not context.check_mode:
                raise
            context.warn(f"{error.message} In check mode there is nothing to probe yet.")
    return chosen


def _check_expected(request: StatusRequest, known: Sequence[InstanceRecord], chosen: Sequence[InstanceRecord], context: Context) -> None:
    """Raises :class:`TokenError` for a credential that no probed token is to have: a name is misspelt, and nothing would be looked at."""
    for number, one in enumerate(request.order.expect):
        if any(one.is_of(record, token) for record in chosen for token in record.tokens):
            continue
        try:
            if one.instance is not None:
                find_instance(known, one.instance, request.registry)
            which = f" with {one.selector}" if one.selector is not None else ""
            where = f" of instance '{one.instance}'" if one.instance is not None else ""
            raise TokenError(
                f"expect[{number}]: no token{which}{where} is probed, so nobody can tell whether '{one.name}' is there.",
                code="token_not_declared",
            )
        except TokenError as error:
            if not context.check_mode:
                raise
            context.warn(f"{error.message} In check mode it is taken for one that an earlier task of this play would register.")


def described(record: InstanceRecord, prefix: str | None, slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An entry of the answer's ``instances``, slots by number. ``slots`` are in the order of the instance's tokens."""
    # Whoever compares has to know whether there was a PIN to be right or wrong.
    shown = [
        {**{name: value for name, value in slot.items() if name != "credentials"}, "login": token.shown_login}
        for slot, token in zip(slots, record.tokens, strict=True)
    ]
    shown.sort(key=lambda slot: (slot["slot_id"] is None, slot["slot_id"] or 0, slot["label"] or ""))
    return {"prefix": prefix, "model": record.model, "name": record.name, "slots": shown}


def _credentials(record: InstanceRecord, slots: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The credentials of one instance, each with the token that it is looked for in."""
    return [
        {"instance": record.name, "slot_id": slot["slot_id"], "token_label": slot["label"], **credential}
        for slot in slots
        for credential in slot["credentials"]
    ]


def _judge(request: StatusRequest, probed: Sequence[Probed], gateway: Mapping[str, Any] | None) -> Outcome:
    """A token counts when it is accessible and has what is expected of it; the gateway when it answers, and says what the probe found."""
    slots = [(record.name, slot) for record, answers in probed for slot in answers]
    wrong = [reason for name, slot in slots if (reason := _wrong(name, slot))]
    good = len(slots) - len(wrong)
    healthy = bool(slots) and not wrong
    outcome = Outcome(changed=False, values={"healthy": healthy, "gateway": gateway})
    differs: list[str] = []
    if gateway is not None and request.require == "all":
        differs = [gateway["error"]] if gateway["error"] else [f"the gateway differs: {one['why']}" for one in gateway["differences"]]
    if (request.require == "all" and (not healthy or differs)) or (request.require == "any" and not good):
        what = "are accessible and have what is expected of them" if request.order.expect else "are accessible"
        why = "; ".join([*(wrong if slots else ["none registered"]), *differs])
        outcome.failure = f"{good} of {len(slots)} tokens {what}, required: {request.require}. {why}"
        outcome.failure_code = "not_healthy"
    return outcome


def _wrong(instance: str, slot: Mapping[str, Any]) -> str:
    """Why a token does not count; empty where it does."""
    place = f"{instance} slot {'?' if slot['slot_id'] is None else slot['slot_id']}"
    if not slot["accessible"]:
        return f"{place}: {slot['error']}"
    return "; ".join(f"{place}, credential '{one['name']}': {one['problem']}" for one in slot["credentials"] if one["problem"])
