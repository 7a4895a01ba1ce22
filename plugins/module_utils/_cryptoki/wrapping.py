# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Keys from one token to another without being in the clear outside of both.

The receiving token makes an RSA pair, the sending one an AES-256 key. The AES key travels under the RSA key (RSA-OAEP, RFC 8017),
and the keys travel under the AES key (RFC 3394 and RFC 5649, which also tell a damaged one). Both live in their session only and
may do nothing else. PKCS#11 3.1, sections 5.18.3 (C_WrapKey), 5.18.4 (C_UnwrapKey) and 6.1.8 (RSA-OAEP).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from .._model.errors import Cryptoki
from .._model.faults import ends_probe
from .._model.keys.material import WrappedMaterial
from .._model.keys.objects import Key, KeyObject
from .._model.keys.types import CLASS_OPERATIONS, HMAC_TYPES, KEY_TYPES, OPERATIONS, PRIVATE, PUBLIC, SECRET, may_use
from .._model.tokens.vendors import WRAPS_WITH_ZEROS
from . import comparing, making, wrap_mechanisms
from .allowed import ATTRIBUTE, packed
from .attributes import read_value
from .binding import key_type, mechanism, pkcs11, typed
from .errors import calling
from .objects import Inventory, describe, destroy, key_of, search_label, set_attribute
from .passing import for_a_moment
from .public_key import public_attributes
from .roundtrip import INCONCLUSIVE, macs
from .rungs import Templates, climb
from .second_look import CHANGED
from .session import Session
from .uninterrupted import uninterrupted

# The hashes of RSA-OAEP and of its MGF1, best first. SoftHSM 2.6.1 takes SHA-1 only, which is as safe here: OAEP needs no resistance
# to collisions (RFC 8017, appendix B.1). No token lists its hashes, so they are tried.
OAEP_HASHES = {"SHA-256": ("SHA256", "SHA256"), "SHA-1": ("SHA_1", "SHA1")}
RSA_BITS = (3072, 2048)
_OAEP, _RSA_PAIR, _AES_KEY = "RSA_PKCS_OAEP", "RSA_PKCS_KEY_PAIR_GEN", "AES_KEY_GEN"
_PROOF_BYTES = 8
_PROOF_BITS = 128


def missing_to_send(session: Session, item: KeyObject) -> list[str]:
    """The mechanisms (without ``CKM_``) that the token lacks to send a key like this one."""
    return _missing(session, item, _OAEP, _AES_KEY)


def missing_to_receive(session: Session, item: KeyObject) -> list[str]:
    """The same for a token that is to receive one."""
    return _missing(session, item, _RSA_PAIR, _OAEP)


def _missing(session: Session, item: KeyObject, *names: str) -> list[str]:
    found = [name for name in names if name not in session.mechanisms()]
    known = (item.type, item.size)
    return found if wrap_mechanisms.candidates(session, *known) else [*found, wrap_mechanisms.described(*known)]


def changed_by_wrapping(session: Session, item: KeyObject) -> bool:
    """Whether the token may wrap another value than the key's."""
    whole = item.size is not None and item.size % 64 == 0
    return item.type in HMAC_TYPES and not whole and session.token.model in WRAPS_WITH_ZEROS


def can_use(session: Session, type_name: str) -> bool:
    """Whether the token has a mechanism for keys of this type."""
    return may_use(type_name, session.mechanisms())


def rsa_bits(session: Session) -> list[int]:
    """The sizes of ``RSA_BITS`` that the token's RSA-OAEP takes, best first. Raises :class:`Cryptoki`."""
    if _OAEP not in session.mechanisms():
        return []
    least, greatest = session.key_sizes(_OAEP)
    return [bits for bits in RSA_BITS if least <= bits and (not greatest or bits <= greatest)]


def effects(session: Session, inventory: Inventory, item: KeyObject) -> dict[str, bytes]:
    """What a secret key does with zeros, by operation or mechanism, as short digests: the same on every token that has the same key.

    Empty where it may do nothing that gives the same result each time. Raises :class:`Cryptoki`.
    """
    raw, ecb = inventory.raw[item.handle], f"{item.type}_ECB"
    calls = {"encrypt": ("encrypt", ecb), "decrypt": ("decrypt", ecb), **{name: ("sign", name) for name in macs(session, item.type)}}
    found = {}
    for way, (operation, name) in calls.items():
        if operation not in item.operations or name not in session.mechanisms():
            continue
        try:
            with calling(f"using key '{item.label}' to {operation}"):
                result = getattr(raw, operation)(bytes(16), mechanism=mechanism(name))
        except Cryptoki as error:
            if error.rv not in INCONCLUSIVE:
                raise
            continue
        found[way] = sha256(result).digest()[:_PROOF_BYTES]
    return found


def _only(kind: str, *may: str, **more: bool) -> dict[Any, Any]:
    """A template for an object that may do this and nothing else."""
    attribute, default = pkcs11.Attribute, pkcs11.constants.DEFAULT
    template = dict.fromkeys((attribute[name.upper()] for name in OPERATIONS), default)
    template |= {attribute[name.upper()]: name in may for name in CLASS_OPERATIONS[kind]}
    return {**template, attribute.PRIVATE: kind != PUBLIC, **{attribute[name.upper()]: value for name, value in more.items()}}


def _as(item: KeyObject, guarded: Mapping[str, Mapping[str, bool]]) -> dict[Any, Any]:
    """A template for an object that may do what ``item`` may, and is restricted and guarded like it."""
    more = {name.lower(): value for name, value in guarded.get(item.kind, {}).items()}
    template = _only(item.kind, *item.operations, **more, **({"modifiable": False} if item.modifiable is False else {}))
    allowed = {pkcs11.Attribute[ATTRIBUTE]: packed(item.allowed_mechanisms)} if item.allowed_mechanisms else {}
    return template | allowed


def _oaep(hash_name: str) -> dict[str, Any]:
    digest, mgf = OAEP_HASHES[hash_name]
    return {"mechanism": mechanism(_OAEP), "mechanism_param": (pkcs11.Mechanism[digest], pkcs11.MGF[mgf], None)}


class _End:
    """One end of the way: a session, and the objects that live in it only."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.padded = ""  # the mechanism with padding that was proven last
        self._made: list[Any] = []

    def _mechanism(self, item: KeyObject) -> str:
        """``item`` as it is on the sender's token: the other may not report its size."""
        return self.padded if wrap_mechanisms.needs_padding(item.type, item.size) else wrap_mechanisms.WHOLE

    def _keep(self, raw: Any) -> Any:
        self._made.append(raw)
        return raw

    def forget(self) -> None:
        """Destroy what was made for the way. What cannot be destroyed ends with the session (PKCS#11 3.1, section 5.6.2)."""
        while self._made:
            with suppress(pkcs11.PKCS11Error):
                self._made.pop().destroy()


class Sender(_End):
    """The token that has the keys. Nothing is written to it."""

    def begin(self, numbers: Mapping[str, bytes]) -> None:
        """Make the AES key, and take the receiver's public key. Raises :class:`Cryptoki`."""
        attribute = pkcs11.Attribute
        template = {
            attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
            attribute.KEY_TYPE: key_type("RSA"),
            attribute.TOKEN: False,
            attribute.PRIVATE: False,
            **{attribute[name.upper()]: name == "wrap" for name in CLASS_OPERATIONS[PUBLIC]},
            **{attribute[name]: value for name, value in numbers.items()},
        }
        with calling(f"giving {self.session.token} the other token's public key"):
            self._public = self._keep(typed(self.session.raw.create_object(template), "RSA"))
        may = _only(SECRET, "wrap", sensitive=True, extractable=True)
        with calling(f"making an AES key for this session on {self.session.token}"):
            how = mechanism(_AES_KEY)
            self._key = self._keep(
                typed(self.session.raw.generate_key(key_type("AES"), 256, store=False, capabilities=0, mechanism=how, template=may), "AES")
            )

    def seal(self, hash_name: str) -> bytes:
        """The AES key under the receiver's public key. Raises :class:`Cryptoki`."""
        with calling(f"wrapping an AES key with RSA-OAEP ({hash_name}) on {self.session.token}"):
            sealed: bytes = self._public.wrap_key(self._key, **_oaep(hash_name))
        return sealed

    def wrap(self, inventory: Inventory, item: KeyObject) -> bytes:
        """A secret or private key under the AES key. Raises :class:`Cryptoki`."""
        name = self._mechanism(item)
        with calling(f"wrapping key '{item.label}' with {name} on {self.session.token}", "C_WrapKey"):
            wrapped: bytes = self._key.wrap_key(inventory.raw[item.handle], mechanism=mechanism(name))
        return wrapped

    def prove(self, name: str) -> bytes:
        """A throw-away key under the AES key with the mechanism ``name``, which :meth:`wrap` has from now on. Raises :class:`Cryptoki`."""
        self.padded = name
        with calling(f"wrapping a key made for a test with {name} on {self.session.token}"):
            how, may = mechanism(_AES_KEY), _only(SECRET, "encrypt", sensitive=True, extractable=True)
            raw = self.session.raw.generate_key(key_type("AES"), _PROOF_BITS, store=False, capabilities=0, mechanism=how, template=may)
            with for_a_moment(typed(raw, "AES")):
                wrapped: bytes = self._key.wrap_key(raw, mechanism=mechanism(name))
        return wrapped


class Receiver(_End):
    """The token that is given the keys."""

    def __init__(self, session: Session, inventory: Inventory) -> None:
        super().__init__(session)
        self.inventory = inventory
        self._can_keep: bool | None = None

    def begin(self, bits: int) -> dict[str, bytes]:
        """Make the RSA pair; its public numbers. Raises :class:`Cryptoki`."""
        with calling(f"making an RSA pair for this session on {self.session.token}"):
            public, self._private = self.session.raw.generate_keypair(
                key_type("RSA"),
                bits,
                store=False,
                capabilities=0,
                mechanism=mechanism(_RSA_PAIR),
                public_template=_only(PUBLIC, "wrap"),
                private_template=_only(PRIVATE, "unwrap", sensitive=True, extractable=False),
            )
            self._keep(typed(self._private, "RSA"))
            self._keep(public)
            return {name: read_value(public, name) for name in ("MODULUS", "PUBLIC_EXPONENT")}

    def open(self, sealed: bytes, hash_name: str) -> None:
        """Take the sender's AES key. Raises :class:`Cryptoki`."""
        may = _only(SECRET, "unwrap", sensitive=True, extractable=False)
        with calling(f"unwrapping an AES key with RSA-OAEP ({hash_name}) on {self.session.token}"):
            secret = pkcs11.ObjectClass.SECRET_KEY
            raw = self._private.unwrap_key(secret, key_type("AES"), sealed, store=False, capabilities=0, template=may, **_oaep(hash_name))
            item = describe(self._keep(raw))
        if item is None:
            raise Cryptoki("the unwrapped AES key cannot be read", rv="CKR_FUNCTION_FAILED", device=True)
        self.inventory.raw[item.handle] = raw
        self._key = item

    def _material(self, item: KeyObject, blob: bytes) -> WrappedMaterial:
        how = self._mechanism(item)
        return WrappedMaterial(blob, item.type, item.size, item.curve, "a key of this session", mechanism=how)

    def prove(self, name: str, blob: bytes) -> bool:
        """Whether the mechanism ``name`` here means what it means on the sender's token, by what its :meth:`Sender.prove` gave. Both of its
        meanings check what they unwrap. :meth:`unwrap` has it from now on.

        Raises :class:`Cryptoki` where the token is not well.
        """
        self.padded = name
        secret, may = pkcs11.ObjectClass.SECRET_KEY, _only(SECRET, "encrypt", sensitive=True, extractable=False)
        wrapping = self.inventory.raw[self._key.handle]
        try:
            with calling(f"unwrapping a key made for a test with {name} on {self.session.token}"):
                raw = wrapping.unwrap_key(
                    secret, key_type("AES"), blob, mechanism=mechanism(name), store=False, capabilities=0, template=may
                )
                with for_a_moment(raw):
                    item = describe(raw)
                    return item is None or item.size in (None, _PROOF_BITS)
        except Cryptoki as error:
            if ends_probe(error.rv):
                raise
            return False

    def unwrap(self, model: Key, blob: bytes, guarded: Mapping[str, Mapping[str, bool]]) -> Key:
        """Make a key on the token that is as ``model`` is on the sender's, with CKA_SENSITIVE. Raises :class:`Cryptoki`, and then
        :meth:`left_of` tells what was made all the same.

        ``guarded`` is of :func:`guards`. CKA_DESTROYABLE is the token's default: a copy that turns out to be bad must go.
        """
        main, raws = model.main, self.inventory.raw
        template = {**_as(main, guarded), pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: bool(main.extractable)}
        named = {"id": main.key_id, "label": main.label, "store": True}
        ckk, how = key_type(KEY_TYPES[main.type].ckk), mechanism(self._mechanism(main))
        kind = pkcs11.ObjectClass.PRIVATE_KEY if main.kind == PRIVATE else pkcs11.ObjectClass.SECRET_KEY

        def make(given: Templates, on_token: bool) -> list[Any]:
            names = named if on_token else {"store": False}
            with calling(f"unwrapping key '{main.label}' with '{self._key.label}'", "C_UnwrapKey", writes=on_token), uninterrupted():
                wrapping = raws[self._key.handle]
                return [wrapping.unwrap_key(kind, ckk, blob, mechanism=how, capabilities=0, template=given[main.kind], **names)]

        made = list(climb(self.session, self.inventory, main.label, {main.kind: template}, make, curve=main.curve).objects)
        if model.public is not None and model.public.public_key:
            made += self._create_public(model.public, guarded).objects
        key = key_of(made)
        if len(key.objects) != 1 + bool(model.public is not None and model.public.public_key):
            raise Cryptoki(f"a half of '{main.label}' cannot be read back", rv="CKR_FUNCTION_FAILED", device=True)
        return key

    def _create_public(self, item: KeyObject, guarded: Mapping[str, Mapping[str, bool]]) -> Key:
        attribute = pkcs11.Attribute
        fixed = {
            attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
            attribute.KEY_TYPE: key_type(KEY_TYPES[item.type].ckk),
            **{attribute[name]: value for name, value in public_attributes(item.public_key or b"").items()},
        }

        def make(given: Templates, on_token: bool) -> list[Any]:
            said = {name: value for name, value in given[PUBLIC].items() if value is not pkcs11.constants.DEFAULT}
            names = {attribute.LABEL: item.label, attribute.ID: item.key_id} if on_token else {}
            with calling(f"importing the public key '{item.label}'", "C_CreateObject", writes=on_token), uninterrupted():
                return [self.session.raw.create_object({**fixed, attribute.TOKEN: on_token, **names, **said})]

        return climb(self.session, self.inventory, item.label, {PUBLIC: _as(item, guarded)}, make, curve=item.curve)

    def can_keep(self) -> bool:
        """Whether the token takes CKA_DESTROYABLE from a key that is made: tried once, with one that lives in this session.

        Raises :class:`Cryptoki`.
        """
        if self._can_keep is None:
            attribute = pkcs11.Attribute
            try:
                with calling(f"trying CKA_DESTROYABLE on {self.session.token}"):
                    raw = self.session.raw.generate_key(pkcs11.KeyType.AES, 128, store=False, template={attribute.EXTRACTABLE: False})
                    raw[attribute.DESTROYABLE] = False
                self._can_keep = True
            except NotImplementedError:
                self._can_keep = False
            except Cryptoki as error:
                if error.device:
                    raise
                self._can_keep = False
        return self._can_keep

    def keep(self, key: Key, model: Key) -> None:
        """Of a copy that is good: what may not be destroyed on the sender's token may not be here. Raises :class:`Cryptoki`."""
        for item in key.objects:
            if getattr(model, item.kind).destroyable is False and item.destroyable is not False:
                set_attribute(self.inventory, item, "DESTROYABLE", False)

    def same_wrapping(self, item: KeyObject, model: KeyObject, blob: bytes) -> bool | None:
        """Whether a secret key is the wrapped one, on the sender's token ``model``; None where that cannot be told.

        Raises :class:`Cryptoki`.
        """
        operation = comparing.comparison(self.session, item)
        if operation is None:
            return None
        spec, may = making.spec_of(item), comparing.permissions(operation)
        reference = making.unwrap_for_a_look(self.session, self.inventory, spec, self._material(model, blob), self._key, may)
        with for_a_moment(reference):
            return comparing.same_secret(self.session, self.inventory, item, reference, operation)

    def left_of(self, model: Key) -> tuple[list[KeyObject], list[KeyObject]]:
        """After a failure: what is on the token since under a name of ``model``, and what has no name. Raises :class:`Cryptoki`."""
        named: list[KeyObject] = []
        nameless: list[KeyObject] = []
        for label in {item.label for item in model.objects}:
            found, others = search_label(self.session, self.inventory, label, set(self.inventory.raw))
            named += found
            nameless += [item for item in others if item.label == ""]
        return named, nameless

    def remove(self, items: list[KeyObject]) -> None:
        """Destroy objects of the token: the public half first, so that what is left of a pair after a crash still tells its value.

        Raises :class:`Cryptoki`; with ``changed_hsm`` among its details something is gone, or may be.
        """
        for number, item in enumerate(sorted(items, key=lambda item: item.kind != PUBLIC)):
            try:
                destroy(self.session, self.inventory, item)
            except Cryptoki as error:
                if number:
                    error.details[CHANGED] = True
                raise
