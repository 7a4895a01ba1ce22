# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a report wants to know beside the probe: versions, certificates on the token, and the keys that are recorded.

The session is the probe's, so that a report costs no login of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..._cryptoki.certificates import read_certificates
from ..._cryptoki.provider import Provider, Token
from ..._cryptoki.session import Session
from ..._cryptoki.slots import token_versions
from ..._model.errors import Cryptoki
from ..._model.faults import ends_probe
from ..._model.keys.generations import split_label
from ..._model.records import GroupRecord, InstanceRecord, VirtualKey

NOT_READ: Mapping[str, Any] = {"versions": None, "certificates": None}


def versions(provider: Provider, token: Token) -> dict[str, str | None]:
    """Of the library, and what the token says of its model, firmware and hardware; None for what cannot be read."""
    found: dict[str, str | None] = dict.fromkeys(("library", "cryptoki", "model", "firmware", "hardware"))
    with suppress(Cryptoki):
        of_library = provider.info()
        found |= {"library": f"{of_library['description']} {of_library['version']}", "cryptoki": of_library["cryptoki_version"]}
    with suppress(Cryptoki):
        found |= {"model": token.model, **token_versions(token)}
    return found


def certificates(session: Session) -> list[dict[str, Any]] | None:
    """The X.509 certificates that this session shows, by label and CKA_ID; None where they cannot be read.

    Raises :class:`Cryptoki` for a fault that says something of the token.
    """
    try:
        objects = read_certificates(session).objects
    except Cryptoki as error:
        if ends_probe(error.rv):
            raise
        return None
    # A probe that is not asked for them does not wait for the library.
    from ..x509.reading import iso, read_certificate

    entries = []
    for item in objects:
        found = read_certificate(item.der)
        of = {"label": item.label, "id": item.key_id.hex(), "fingerprint": found.fingerprint, "subject": None, "not_after": None}
        if found.parsed is not None:
            of |= {"subject": found.parsed.subject.rfc4514_string(), "not_after": iso(found.parsed.not_valid_after_utc)}
        entries.append(of)
    return sorted(entries, key=lambda one: (one["label"], one["id"], one["fingerprint"]))


def recorded_keys(known: Sequence[InstanceRecord], groups: Mapping[str | None, str], records: Sequence[VirtualKey]) -> list[dict[str, Any]]:
    """Each virtual key with its age's beginning, in the order of instances, tokens and labels. ``groups`` are names by id."""
    owners = {token.id: (instance.name, token.named()) for instance in known for token in instance.tokens}
    entries = []
    for record in records:
        instance, token = owners[record.token_id]
        label = split_label(record.label)[0] if record.generation > 1 else record.label
        entries.append(
            {
                "instance": instance,
                "token": token,
                "group": groups.get(record.group_id),
                "label": label,
                "id": record.key_id.hex(),
                "generation": record.generation,
                "kind": record.kind,
                "type": record.type,
                "size": record.size,
                "curve": record.curve,
                "state": record.state,
                "since": record.made_at or record.created_at,
                "found": record.made_at is None,
            }
        )
    return sorted(entries, key=lambda one: (one["instance"], one["token"], one["label"], one["generation"], one["id"], one["kind"]))


def members_of(known: Sequence[InstanceRecord], groups: Sequence[GroupRecord]) -> list[dict[str, Any]]:
    """Each group with the instances of its members, in priority order, each once."""
    owners = {token.id: instance.name for instance in known for token in instance.tokens}
    return [{"name": group.name, "instances": list(dict.fromkeys(owners[member] for member in group.members))} for group in groups]
