# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""hsm_status: what every registered token answers just now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._cryptoki.provider import Provider, open_provider
from .._model.addresses import prefix_of
from .._model.errors import KeyfleetError, Refused, TokenError
from .._model.plan import Context, Outcome
from .._model.records import InstanceRecord, TokenRecord, identity_in
from .._model.site.undeclared import told
from .._model.status_request import StatusRequest
from .._model.tokens.identity import Store, TokenIdentity
from .._model.tokens.pin_state import pin_state
from .._model.tokens.status import TokenStatus, fault_fields
from .._model.uids import prefix_order
from .._registry import groups
from .._registry import instances as table
from .._registry.database import open_database
from .tokens.child import run_in_child
from .tokens.choice import find_instance
from .tokens.connection import instance_pin
from .tokens.probe import find_token, probe_token
from .tokens.refused_pins import Tried, note_login

_NOTHING: Mapping[str, list[Any]] = {"instances": [], "tokens": [], "groups": []}
_LEAST_WAIT = 0.1  # seconds for a lock, when the time is almost up
_LOCK_SHARE = 0.8  # of the time of a probe: waiting for another run may take this much, and then says so


def report(request: StatusRequest, context: Context) -> Outcome:
    """hsm_status. Never changes anything; ``require`` decides whether what it found is a failure."""
    try:
        with open_database(request.registry, run=context.run, check_mode=True) as database:
            known, known_groups = table.all_instances(database), groups.all_groups(database)
    except KeyfleetError as error:
        # With nothing to probe there need not be one.
        if error.code != "registry_missing" or not (context.check_mode or request.instances == ()):
            raise
        if request.instances != ():
            context.warn(f"{error.message} In check mode there is nothing to probe yet.")
        return Outcome(changed=False, values={"healthy": False, "instances": [], "undeclared": _NOTHING})
    undeclared = request.declared.undeclared(known, known_groups) if request.declared is not None else _NOTHING
    if text := told(undeclared):
        if request.refuses_undeclared:
            raise Refused(f"{text} Declare it, or remove it with state: absent.", code="undeclared", details=dict(undeclared))
        context.warn(text)
    chosen = known
    if request.instances is not None:
        chosen = []
        for name in request.instances:
            try:
                chosen.append(find_instance(known, name, request.registry))
            except TokenError as error:
                if not context.check_mode:
                    raise
                context.warn(f"{error.message} In check mode there is nothing to probe yet.")
    probed = probe_instances(known, chosen, request)
    if not context.check_mode:
        _note_logins(request.registry, context, probed)
    prefixes = prefix_of(known)
    outcome = _judge([_described(record, prefixes[record.name], slots) for record, slots in probed], request.require)
    outcome.values["undeclared"] = undeclared
    return outcome


def _described(record: InstanceRecord, prefix: str | None, slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An entry of the answer's ``instances``, slots by number. ``slots`` are in the order of the instance's tokens."""
    # Whoever compares has to know whether there was a PIN to be right or wrong.
    shown = [{**slot, "login": token.shown_login} for slot, token in zip(slots, record.tokens, strict=True)]
    shown.sort(key=lambda slot: (slot["slot_id"] is None, slot["slot_id"] or 0, slot["label"] or ""))
    return {"prefix": prefix, "model": record.model, "name": record.name, "slots": shown}


def _note_logins(registry: str, context: Context, probed: Sequence[Probed]) -> None:
    """Remember refused PINs, for which the registry is opened only when there is something to write."""
    news = [
        (token, slot["code"])
        for record, slots in probed
        for token, slot in zip(record.tokens, slots, strict=True)
        if slot["code"] == "pin_incorrect" or (slot["accessible"] and token.refusals)
    ]
    if not news:
        return
    with open_database(registry, run=context.run) as database:
        for token, code in news:
            note_login(database, token, None if token.pinpad else Tried(token.pin_file, token.user_type == "so"), code)


def _judge(instances: list[dict[str, Any]], require: str) -> Outcome:
    slots = [(entry, slot) for entry in instances for slot in entry["slots"]]
    good = sum(slot["accessible"] for _entry, slot in slots)
    healthy = bool(slots) and good == len(slots)
    outcome = Outcome(changed=False, values={"healthy": healthy, "instances": instances})
    if (require == "all" and not healthy) or (require == "any" and not good):
        bad = [
            f"{entry['name']} slot {slot['slot_id'] if slot['slot_id'] is not None else '?'}: {slot['error']}"
            for entry, slot in slots
            if not slot["accessible"]
        ]
        outcome.failure = f"{good} of {len(slots)} tokens are accessible, required: {require}. " + ("; ".join(bad) or "none registered")
        outcome.failure_code = "not_healthy"
    return outcome


Probed = tuple[InstanceRecord, list[dict[str, Any]]]


def probe_instances(known: Sequence[InstanceRecord], chosen: Sequence[InstanceRecord], request: StatusRequest) -> list[Probed]:
    """The instances sorted by prefix, each with the answers of its tokens in their order. Each instance in a child of its own.

    A PIN that one instance's token refused is not tried again through another instance of the same token.
    """
    prefixes = prefix_of(known)
    refused: list[TokenIdentity] = []
    probed = []
    for record in sorted(chosen, key=lambda item: (prefix_order(prefixes[item.name]), item.name)):
        slots = _in_child(record, request, refused)
        for token, slot in zip(record.tokens, slots, strict=True):
            if slot["code"] == "pin_incorrect":
                seen = replace(token, label=slot["label"], serial=slot["serial"], slot=slot["slot_id"])
                refused.append(identity_in(record, seen))
        probed.append((record, slots))
    return probed


def _in_child(record: InstanceRecord, request: StatusRequest, refused: Sequence[TokenIdentity]) -> list[dict[str, Any]]:
    slots, error = run_in_child(lambda: _probe_tokens(record, request, refused), request.timeout, f"instance '{record.name}'")
    if error is not None:
        # The token that was being probed is to blame for it; those behind it were not looked at.
        rest = record.tokens[len(slots) :]
        slots += [{**replace(_last_seen(token), **fault_fields(error)).as_slot(), "device_fault": True} for token in rest[:1]]
        skipped = KeyfleetError(f"not probed: {error.message}", code="not_probed")
        slots += [replace(_last_seen(token), **fault_fields(skipped)).as_slot() for token in rest[1:]]
    return slots


def _last_seen(token: TokenRecord) -> TokenStatus:
    return TokenStatus(slot_id=token.slot, label=token.label, serial=token.serial)


def _probe_tokens(record: InstanceRecord, request: StatusRequest, refused: Sequence[TokenIdentity]) -> Iterator[dict[str, Any]]:
    """In the child: every token of one instance. An error of one token, or of the library, is its answer.

    A token that another run keeps busy may take its share of the time, not the others'.
    """
    end = time.monotonic() + request.timeout * _LOCK_SHARE
    done = 0
    try:
        with open_provider((record.library,), record.starting, request.timeout * _LOCK_SHARE) as provider:
            for token in record.tokens:
                share = max(_LEAST_WAIT, (end - time.monotonic()) / (len(record.tokens) - done))
                wait = min(record.connection_timeout or share, share)
                yield _probe_one(provider, record, token, request, refused, wait).as_slot()
                done += 1
    except KeyfleetError as error:
        yield from (replace(_last_seen(token), **fault_fields(error)).as_slot() for token in record.tokens[done:])


def _probe_one(
    provider: Provider,
    record: InstanceRecord,
    known: TokenRecord,
    request: StatusRequest,
    refused: Sequence[TokenIdentity],
    wait: float,
) -> TokenStatus:
    found = find_token(provider, known.selector)
    if isinstance(found, KeyfleetError):
        return replace(_last_seen(known), **fault_fields(found))
    state = pin_state(found.flags, so=known.user_type == "so")
    seen = TokenStatus(slot_id=found.slot_id, label=found.label, serial=found.serial, pin_state=state)
    if was := known.replaced_by(found.identity):
        error: KeyfleetError = TokenError(
            f"{found} is not the registered token, which has {was}: it was replaced or initialised anew. Run hsm_instance to register it.",
            code="token_changed",
        )
        return replace(seen, **fault_fields(error))
    # By whatever library and model it is declared: one try too few costs less than one too many.
    identity = replace(found.identity, store=Store.of(record.library, record.starting))
    if any(identity.is_same(other, one_maker=True) for other in refused):
        error = TokenError(f"{found}: its PIN was refused earlier in this run and is not tried again.", code="pin_not_tried")
        return replace(seen, **fault_fields(error))
    try:
        pin = instance_pin(known, request.login)
    except KeyfleetError as error:
        return replace(seen, **fault_fields(error))
    return probe_token(
        provider,
        found,
        pin=pin,
        login=known.login,
        so=known.user_type == "so",
        kind=request.probe,
        allow_low_pin_count=request.login.allow_low_pin_count,
        timeout=wait,
    )
