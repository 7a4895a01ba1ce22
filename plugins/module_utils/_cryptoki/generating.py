# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""C_GenerateKey and C_GenerateKeyPair with the templates that python-pkcs11 would give them, and without the calls that follow there.

Both raise :class:`Cryptoki`, and then something may have been made all the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from .._model.keys.spec import KeySpec
from .binding import key_type, pkcs11
from .binding import mechanism as by_name
from .function_list import GENERATE_KEY, GENERATE_KEY_PAIR, Mechanism, Ulong, check
from .session import Session

Template = Mapping[Any, Any]


def _merged(usual: Template, given: Template) -> dict[Any, Any]:
    """What python-pkcs11 says of such an object, unless it is ``given``. DEFAULT leaves an attribute out."""
    return {name: value for name, value in {**usual, **given}.items() if value is not pkcs11.constants.DEFAULT}


def generate_secret(session: Session, spec: KeySpec, names: Mapping[str, Any], given: Template, doing: str) -> Any:
    """A secret key. ``names``: id, label and store, as python-pkcs11 takes them. Raises python-pkcs11's errors, too."""
    way, handle, mechanism = session.way, Ulong(), by_name(spec.key_type.generate)
    if way is None:
        ckk = key_type(spec.key_type.ckk)
        return session.raw.generate_key(ckk, spec.new_size, capabilities=0, mechanism=mechanism, template=given, **names)
    usual = way.mapper.secret_key_template(capabilities=0, **_spelt(names))
    template = way.packed(_merged(usual, given))
    how = Mechanism(int(mechanism), None, 0)
    check(way.functions(GENERATE_KEY, ctypes.byref(how), template, len(template), ctypes.byref(handle)), doing)
    return way.object(handle.value)


def generate_pair(session: Session, spec: KeySpec, names: Mapping[str, Any], public: Template, private: Template, doing: str) -> list[Any]:
    """The public and the private half of a pair. Raises python-pkcs11's errors, too."""
    way, handles, mechanism = session.way, (Ulong(), Ulong()), by_name(spec.key_type.generate)
    if way is None:
        common = {"capabilities": 0, "mechanism": mechanism, "public_template": public, "private_template": private}
        return list(session.raw.generate_keypair(key_type(spec.key_type.ckk), spec.new_size, **common, **names))
    usual = [make(capabilities=0, **_spelt(names)) for make in (way.mapper.public_key_template, way.mapper.private_key_template)]
    templates = [way.packed(_merged(*both)) for both in zip(usual, (public, private), strict=True)]
    how = Mechanism(int(mechanism), None, 0)
    sized = [part for template in templates for part in (template, len(template))]
    check(way.functions(GENERATE_KEY_PAIR, ctypes.byref(how), *sized, *map(ctypes.byref, handles)), doing)
    return [way.object(handle.value) for handle in handles]


def _spelt(names: Mapping[str, Any]) -> dict[str, Any]:
    return {"id_": names.get("id"), "label": names.get("label"), "store": names["store"]}
