# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The keys that the server may not be able to use, since another object has their CKA_ID. No login is made.

Without one a token shows public keys and certificates. Which private and secret keys stand beside them, the registry knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..._cryptoki.certificates import read_certificates
from ..._cryptoki.objects import read_inventory
from ..._cryptoki.provider import open_provider
from ..._cryptoki.session import open_session
from ..._model.errors import KeyfleetError
from ..._model.keys.misfits import CertificateName, Names, misfits
from ..._model.keys.objects import KeyObject, group_keys
from ..._model.keys.types import PUBLIC
from ..._model.kms.config import Served
from ..._model.plan import Context
from ..._model.quoting import listed
from ..._model.records import VirtualKey
from ..tokens.child import run_in_child

_SECONDS = 60  # for a library to show its public objects; more is a hang


def look(instances: Sequence[Served], records: Mapping[str, Sequence[VirtualKey]], context: Context) -> list[dict[str, Any]]:
    """An entry for each object that has the CKA_ID of a key: ``instance``, ``label`` and ``id`` of the key, and ``object``, which is
    public_key or certificate. ``records`` are the registry's, by instance. Warns of them, and of a token that could not be looked at.
    """
    found: list[dict[str, Any]] = []
    for instance in instances:
        name, slots = instance.spec.name, [slot for slot in instance.slots if slot is not None]
        if not slots:
            continue
        seconds = _SECONDS + instance.spec.connection_timeout
        lines, error = run_in_child(partial(_lines, instance), seconds, f"library {instance.named}")
        entries = [{"instance": name, **entry} for line in lines for entry in _unusable(line, records.get(name, ()))]
        for text in [line["error"] for line in lines if line["error"]] or ([error.message] if error is not None else []):
            context.warn(f"{instance.where}: whether the server can use the keys could not be seen: {text}")
        if entries:
            labels = list(dict.fromkeys(entry["label"] or entry["id"] for entry in entries))
            context.warn(
                f"{instance.where}: the server may not be able to use {listed(labels)}, because a public half or a certificate has the "
                "same CKA_ID. Declare layout: eviden and run hsm_sync with repair: layout (docs/kms.md)."
            )
        found += entries
    return found


def _lines(instance: Served) -> Iterator[dict[str, Any]]:
    """In the child: what each token shows without a login."""
    try:
        with open_provider((instance.library,), instance.spec.starting, instance.spec.connection_timeout) as provider:
            for token in instance.spec.tokens:
                try:
                    here = provider.require(token.selector)
                    with open_session(provider, here, pin=None, read_write=False, timeout=instance.spec.connection_timeout) as session:
                        publics = [item for item in read_inventory(session).objects if item.kind == PUBLIC]
                        certificates = read_certificates(session).objects
                    yield {
                        "publics": [[item.handle, item.label, item.key_id.hex(), item.type] for item in publics],
                        "certificates": [[item.handle, item.label, item.key_id.hex()] for item in certificates],
                        "error": None,
                    }
                except KeyfleetError as error:
                    yield {"publics": [], "certificates": [], "error": error.message}
    except KeyfleetError as error:
        yield {"publics": [], "certificates": [], "error": error.message}


def _unusable(line: Mapping[str, Any], records: Sequence[VirtualKey]) -> Iterator[dict[str, Any]]:
    """What of a token shares a CKA_ID with a key: seen, or recorded."""
    kept = [KeyObject(-number, one.kind, one.label, one.key_id, one.type) for number, one in enumerate(records, 1) if one.kind != PUBLIC]
    publics = [KeyObject(handle, PUBLIC, label, bytes.fromhex(key_id), type_) for handle, label, key_id, type_ in line["publics"]]
    certificates = [CertificateName(handle, Names(bytes.fromhex(key_id), label), b"") for handle, label, key_id in line["certificates"]]
    for misfit in misfits(group_keys([*kept, *publics]), certificates):
        if misfit.shares_id:
            shown = misfit.shown()
            yield {name: shown[name] for name in ("label", "id", "object")}
