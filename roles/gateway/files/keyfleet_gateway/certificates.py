# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the certificates end that tokens hold. They are public objects, as a rule: no login is made for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.certificates import read_certificates
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.session import open_session
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.child import run_in_child
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.probe import find_token
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import InstanceRecord
from cryptography import x509


def certificate_ends(record: InstanceRecord, seconds: float) -> list[dict[str, Any]]:
    """For each certificate the place of its token, its ``label``, ``id`` and ``end`` (seconds since 1970).

    In a child that has ``seconds``. What cannot be read is left out: health is the probe's to tell.
    """
    found, _error = run_in_child(lambda: _read(record, seconds), seconds, f"instance '{record.name}'")
    return found


def _read(record: InstanceRecord, seconds: float) -> Iterator[dict[str, Any]]:
    try:
        with open_provider((record.library,), record.starting, seconds) as provider:
            for place, token in enumerate(record.tokens):
                there = find_token(provider, token.selector)
                if isinstance(there, KeyfleetError):
                    continue
                with open_session(provider, there, pin=None, read_write=False, timeout=seconds) as session:
                    for item in read_certificates(session).objects:
                        try:
                            end = x509.load_der_x509_certificate(item.der).not_valid_after_utc.timestamp()
                        except ValueError:
                            continue
                        yield {"token": place, "label": item.label, "id": item.key_id.hex(), "end": end}
    except KeyfleetError:
        return
