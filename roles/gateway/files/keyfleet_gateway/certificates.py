# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the certificates end that tokens hold. They are public objects, as a rule: no login is made for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.certificates import read_certificates
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import Provider, open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.session import open_session
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.child import run_in_child
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.probe import find_token
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord, TokenRecord
from cryptography import x509


def certificate_ends(record: InstanceRecord, seconds: float) -> list[dict[str, Any]]:
    """For each token, in their order, its ``certificates``, each with ``label``, ``id`` and ``end`` (seconds since 1970); or the ``error``
    for which they could not be read. Health is the probe's to tell.

    In a child that has ``seconds``.
    """
    told, error = run_in_child(lambda: _read(record, seconds), seconds, f"instance '{record.name}'")
    unread = {"error": error.message if error is not None else "it was not read"}
    return told + [unread] * (len(record.tokens) - len(told))


def _read(record: InstanceRecord, seconds: float) -> Iterator[dict[str, Any]]:
    answered = 0
    try:
        with open_provider((record.library,), record.starting, seconds) as provider:
            for token in record.tokens:
                yield _of_token(provider, token, seconds)
                answered += 1
    except KeyfleetError as error:
        yield from [{"error": error.message}] * (len(record.tokens) - answered)


def _of_token(provider: Provider, token: TokenRecord, seconds: float) -> dict[str, Any]:
    """All of them or none: a part would tell that the others are gone."""
    there = find_token(provider, token.selector)
    if isinstance(there, KeyfleetError):
        return {"error": there.message}
    found = []
    try:
        with open_session(provider, there, pin=None, read_write=False, timeout=seconds) as session:
            for item in read_certificates(session).objects:
                with suppress(ValueError):  # not as X.509 has it: without an end to tell, whenever it is read
                    end = x509.load_der_x509_certificate(item.der).not_valid_after_utc.timestamp()
                    found.append({"label": item.label, "id": item.key_id.hex(), "end": end})
    except KeyfleetError as error:
        return {"error": error.message}
    return {"certificates": found}
