# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects that are made for one look and stay in the session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .attributes import read_value
from .binding import mechanism, pkcs11


@contextmanager
def for_a_moment(raw: Any) -> Iterator[Any]:
    """A session object, destroyed at the end. One that cannot be goes with the session; what it was made for counts all the same."""
    try:
        yield raw
    finally:
        with suppress(pkcs11.PKCS11Error):
            raw.destroy()


def guest_key(session: Any) -> Any:
    """A key that is there to be wrapped, of the session only. Raises python-pkcs11's errors."""
    template = {pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False}
    return session.raw.generate_key(pkcs11.KeyType.AES, 128, store=False, template=template)


def agree_by_capsule(public: Any, private: Any) -> bool:
    """Whether the private half of an ML-KEM pair opens what the public one has encapsulated. Raises python-pkcs11's errors."""
    attribute, how = pkcs11.Attribute, {"store": False, "capabilities": 0, "mechanism": mechanism("ML_KEM")}
    more = {"key_length": 256, "template": {attribute.EXTRACTABLE: True, attribute.SENSITIVE: False}}
    capsule, secret = public.encapsulate_key(pkcs11.KeyType.GENERIC_SECRET, **how, **more)
    with for_a_moment(secret), for_a_moment(private.decapsulate_key(capsule, pkcs11.KeyType.GENERIC_SECRET, **how, **more)) as same:
        return bool(read_value(secret, "VALUE") == read_value(same, "VALUE"))


def agreed_secret(private: Any, point: bytes, template: Mapping[Any, Any] | None = None) -> Any:
    """What an EC key agrees on with the owner of the ``point`` (CKM_ECDH1_DERIVE), of the session only. Raises python-pkcs11's errors."""
    return private.derive_key(
        pkcs11.KeyType.GENERIC_SECRET,
        256,
        store=False,
        capabilities=0,
        mechanism=mechanism("ECDH1_DERIVE"),
        mechanism_param=(pkcs11.KDF.NULL, None, point),
        template=template,
    )
