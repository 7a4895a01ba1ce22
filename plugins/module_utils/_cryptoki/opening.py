# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a wrapped key is, before one is made of it on the token: it is opened for this session, and looked at.

A token makes a key of whatever it finds in the wrapping: SoftHSM a DES3 key of 32 bytes, and of a key that is declared with 128 bits one
of 256. It does not report CKA_VALUE_LEN of it either. Then the length in which it is wrapped again tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._model.errors import Cryptoki
from .._model.faults import ends_probe
from .._model.keys.material import SECRET_SIZES, WrappedMaterial
from .._model.keys.objects import KeyObject
from .._model.keys.source_rules import wrapped_size
from .._model.keys.spec import KeySpec
from .._model.keys.types import CLASS_OPERATIONS, FIXED_SIZES, HMAC_TYPES, PRIVATE, SECRET
from . import wrap_mechanisms
from .binding import key_type, mechanism, pkcs11
from .errors import calling
from .making import unwrap_for_a_look, unwrap_mechanism
from .objects import Inventory, describe
from .passing import for_a_moment
from .session import Session

_BLOCK_BITS = 64


@dataclass(frozen=True)
class Opened:
    """A wrapped key. ``size`` is in bits; None: nothing tells it. ``rounded``: to the next 64 bits."""

    size: int | None
    curve: str | None = None
    empty: bool = False
    rounded: bool = False

    def misfit(self, spec: KeySpec, size: int | None) -> str | None:
        """Why it is not what ``spec`` declares, with ``size`` in the place of that in the spec; None where nothing speaks against it."""
        kind = spec.key_type.name
        if self.empty:
            return f"holds no {kind} key"
        if self.curve is not None and spec.new_curve not in (self.curve, None):
            return f"holds a key on {self.curve}, asked for {spec.new_curve}"
        if self.size is None:
            return None
        sizes = SECRET_SIZES.get(kind) if size is None else (size,)
        if sizes is None or self.size in {-(-bits // _BLOCK_BITS) * _BLOCK_BITS if self.rounded else bits for bits in sizes}:
            return None
        wanted = f"asked for {size}" if size is not None else f"which no {kind} key has"
        return f"holds a key of {self.size} bits, {wanted}"


def opened_object(item: KeyObject) -> Opened:
    """What the token reports of a key that it has opened. The size of types that have one only is assumed, so it tells nothing."""
    told = item.size if item.kind == PRIVATE or item.type not in FIXED_SIZES else None
    return Opened(told, item.curve, item.empty)


def open_for_a_look(session: Session, inventory: Inventory, spec: KeySpec, material: WrappedMaterial, wrapping: KeyObject) -> Opened:
    """The wrapped key, opened for this session. Raises :class:`Cryptoki`."""
    kind = PRIVATE if spec.key_type.is_pair else SECRET
    # Of what is false nothing is said: strict tokens, for which :mod:`.rungs` is there, take that.
    may = {pkcs11.Attribute[name.upper()]: True for name in CLASS_OPERATIONS[kind] if name in spec.new_operations}
    with for_a_moment(unwrap_for_a_look(session, inventory, spec, material, wrapping, may)) as raw, calling("reading an unwrapped key"):
        item = describe(raw)
    if item is None:
        raise Cryptoki("the unwrapped key cannot be read", rv="CKR_FUNCTION_FAILED", device=True)
    found = opened_object(item)
    if kind == PRIVATE or found.size is not None:
        return found
    how = unwrap_mechanism(session, spec, material, wrapping)
    if (size := wrapped_size(material.blob, type=spec.key_type.name, mechanism=how)) is not None:
        return Opened(size)
    return Opened(_measured(session, inventory, spec, material, wrapping), rounded=spec.type in HMAC_TYPES)


def _measured(session: Session, inventory: Inventory, spec: KeySpec, material: WrappedMaterial, wrapping: KeyObject) -> int | None:
    """The bits of a secret key, to the next 64, by the length that AES_KEY_WRAP gives it (RFC 3394, section 2.2.1); None where the token
    does not do that."""
    attribute, whole = pkcs11.Attribute, wrap_mechanisms.WHOLE
    if not {whole, "AES_KEY_GEN"} <= session.mechanisms():
        return None
    may = {attribute.WRAP: True, attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False}
    try:
        reference = unwrap_for_a_look(session, inventory, spec, material, wrapping, {}, extractable=True)
        with for_a_moment(reference), calling("wrapping an unwrapped key, to measure it"):
            made = session.raw.generate_key(
                key_type("AES"), 256, store=False, capabilities=0, mechanism=mechanism("AES_KEY_GEN"), template=may
            )
            with for_a_moment(made):
                return len(made.wrap_key(reference, mechanism=mechanism(whole))) * 8 - _BLOCK_BITS
    except Cryptoki as error:
        if ends_probe(error.rv):
            raise
        return None
