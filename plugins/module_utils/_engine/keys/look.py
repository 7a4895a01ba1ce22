# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a plan asks of the token. It uses keys, and objects that live in the session only; nothing on the token changes."""

from __future__ import annotations

from collections.abc import Mapping

from ..._cryptoki import comparing, making
from ..._cryptoki.curves import NO_CURVE, blame_curve, lacking
from ..._cryptoki.objects import Inventory
from ..._cryptoki.opening import open_for_a_look
from ..._cryptoki.passing import for_a_moment
from ..._cryptoki.probing import probe
from ..._cryptoki.public_key import public_attributes
from ..._cryptoki.roundtrip import NO_VALUE, use_once, works_with_another
from ..._cryptoki.rungs import NOT_STORED
from ..._cryptoki.session import Session
from ..._cryptoki.still_does import does
from ..._model.errors import Cryptoki, KeyfleetError
from ..._model.keys.material import KeyMaterial, WrappedMaterial
from ..._model.keys.objects import Key, KeyObject
from ..._model.keys.source_rules import wrapped_length_problem
from ..._model.keys.spec import KeySpec
from ..._model.keys.types import PUBLIC
from .planning.looking import Untold

NOT_ITS_WRAPPING = "the source may be damaged, wrapped by another key or with another mechanism"
# Answers to a wrapped key that cannot be opened, or holds no key of the type that was asked for.
_NOT_OPENED = frozenset(
    {
        "CKR_DATA_INVALID",
        "CKR_DATA_LEN_RANGE",
        "CKR_ENCRYPTED_DATA_INVALID",
        "CKR_ENCRYPTED_DATA_LEN_RANGE",
        "CKR_FUNCTION_FAILED",
        "CKR_GENERAL_ERROR",
        "CKR_UNWRAPPING_KEY_SIZE_RANGE",
        "CKR_WRAPPED_KEY_INVALID",
        "CKR_WRAPPED_KEY_LEN_RANGE",
    }
)


def wrapping_key(inventory: Inventory, spec: KeySpec, material: WrappedMaterial) -> KeyObject:
    """The key that ``source.wrapping_key`` names. Raises :class:`KeyfleetError` where it is not there, not one, or may not unwrap."""
    where = f"{spec.where}.source.wrapping_key"
    found = [item for item in inventory.labelled(material.wrapping_key) if item.kind != PUBLIC]
    if len(found) != 1:
        listed = "; ".join(item.named() for item in found)
        there = f"{len(found)} keys have that label ({listed})" if found else "there is no such secret or private key on the token"
        raise KeyfleetError(f"{where}: '{material.wrapping_key}': {there}: name one that is there", code="cannot_plan")
    if found[0].has("unwrap") is False:
        raise KeyfleetError(f"{where}: '{material.wrapping_key}' may not unwrap: give it the operation unwrap", code="cannot_plan")
    return found[0]


def _place(spec: KeySpec) -> str:
    """The option that holds the key."""
    return "content" if spec.source is not None and spec.source.content is not None else "src"


class TokenLook:
    """Answers from a token in an open session."""

    def __init__(self, session: Session, inventory: Inventory, fingerprints: Mapping[str, str]) -> None:
        self.session = session
        self.inventory = inventory
        self.fingerprints = fingerprints  # recorded ones, by CKA_LABEL
        self._healthy = True
        self._computed: dict[int, str | None] = {}  # fingerprints, by handle
        self.sizes: dict[str, int] = {}  # of wrapped keys that were opened for a look, by CKA_LABEL

    def use(self, key: Key) -> Cryptoki | None:
        try:
            use_once(self.session, self.inventory, key)
        except Cryptoki as error:
            return error
        return None

    def does(self, item: KeyObject, operation: str) -> bool | None:
        return does(self.session, self.inventory, item, operation)

    def empty(self, key: Key) -> bool:
        failures = [self.use(key), self.use(key)]
        if any(failure is None or failure.rv not in NO_VALUE for failure in failures):
            return False
        if any(item.allowed_mechanisms for item in key.objects):
            return False
        return works_with_another(self.session, key)

    def openable(self, spec: KeySpec) -> str | None:
        if isinstance(spec.material, WrappedMaterial):
            try:
                wrapping = wrapping_key(self.inventory, spec, spec.material)
                how = making.unwrap_mechanism(self.session, spec, spec.material, wrapping)
            except Cryptoki as error:
                return f"{spec.where}.source.mechanism: {error.message}"
            except KeyfleetError as error:
                return error.message
            # Not before: without a mechanism in the source, the wrapping key tells it.
            problem = wrapped_length_problem(spec.material.blob, spec.type or "", spec.size, how, wrapping.size)
            return f"{spec.where}.source.{_place(spec)}: {problem}" if problem is not None else None
        return None

    def unwraps(self, spec: KeySpec) -> tuple[str | None, Untold]:
        material = spec.material
        if not isinstance(material, WrappedMaterial):
            return None, ()
        try:
            found = open_for_a_look(self.session, self.inventory, spec, material, wrapping_key(self.inventory, spec, material))
        except Cryptoki as error:
            blame_curve(self.session, spec.new_curve, error)
            if self.blames_device(error):
                raise
            if error.rv != NO_CURVE and error.rv not in _NOT_OPENED:
                return None, ()  # how much of a template the token takes, only making the key shows
            hint = "" if error.rv == NO_CURVE else f"; {NOT_ITS_WRAPPING}"
            return f"{spec.where}.source.{_place(spec)}: {error.message}{hint}", ()
        if (misfit := found.misfit(spec, material.size)) is not None:
            return f"{spec.where}.source.{_place(spec)}: {misfit}", ()
        if found.size is not None and not found.rounded:
            self.sizes[spec.label] = found.size
        elif spec.size is not None and not material.public:
            return None, (("size", "MODULUS" if spec.type == "RSA" else "VALUE_LEN"),)
        return None, ()

    def importable(self, spec: KeySpec) -> Cryptoki | None:
        material = spec.material
        if material is None:
            return lacking(self.session, spec.new_curve) if spec.new_curve else None
        try:
            if isinstance(material, KeyMaterial):
                reference = making.create_for_a_look(self.session, spec, material)
            else:
                wrapping = wrapping_key(self.inventory, spec, material)
                reference = making.unwrap_for_a_look(self.session, self.inventory, spec, material, wrapping)
        except Cryptoki as error:
            blame_curve(self.session, spec.new_curve, error)
            return error
        with for_a_moment(reference):
            return None

    def healthy(self) -> bool:
        """Whether the token works now. One that was found broken is not asked again."""
        if self._healthy:
            try:
                probe(self.session)
            except Cryptoki:
                self._healthy = False
        return self._healthy

    def blames_device(self, error: Cryptoki) -> bool:
        """Whether a failed call is the device's fault. SoftHSM answers to a damaged key or blob as a broken device would; a device that
        still works is not it."""
        blamed = NOT_STORED in error.details or error.rv not in NO_VALUE
        return error.device and (blamed or not self.healthy())

    def belongs(self, private: KeyObject, public: Mapping[str, bytes]) -> bool | None:
        return comparing.belongs(self.session, self.inventory, private, public)

    def public_value(self, public_key: bytes) -> Mapping[str, bytes]:
        return public_attributes(public_key)

    def same(self, spec: KeySpec, key: Key) -> bool | None:
        material = spec.material
        if material is None:
            return None
        if material.public_key and key.public is not None and key.public.public_key:
            return material.public_key == key.public.public_key
        if spec.key_type.is_pair:
            return self._same_private(spec, key, material)
        return self._same_secret(spec, key, material)

    def _same_private(self, spec: KeySpec, key: Key, material: KeyMaterial | WrappedMaterial) -> bool | None:
        if key.private is None or not key.private.modulus:
            return None
        if material.public.get("MODULUS"):
            return material.public["MODULUS"] == key.private.modulus
        if isinstance(material, KeyMaterial):
            return None
        reference = making.unwrap_for_a_look(self.session, self.inventory, spec, material, wrapping_key(self.inventory, spec, material))
        with for_a_moment(reference):
            return comparing.modulus_of(reference) == key.private.modulus

    def _same_secret(self, spec: KeySpec, key: Key, material: KeyMaterial | WrappedMaterial) -> bool | None:
        item = key.main
        value = comparing.check_value(self.session, self.inventory, item)
        known = material.check_value if isinstance(material, KeyMaterial) else None
        if value is not None and value == known:
            return True
        if isinstance(material, KeyMaterial) and item.size not in (None, material.size):
            return False  # HMAC fills keys up with zeros, so a shorter one may do the same
        # A check value that differs is no verdict: tokens compute it in more than one way (PKCS#11 3.1, section 4.10.2).
        operation = comparing.comparison(self.session, item)
        same = self._same_effect(spec, item, material, operation) if operation is not None else None
        if same is None and value is None and known is not None and item.label in self.fingerprints:
            return self.fingerprints[item.label] == known.hex()  # what was imported, on a token that gives no check value
        return same

    def _same_effect(self, spec: KeySpec, item: KeyObject, material: KeyMaterial | WrappedMaterial, operation: str) -> bool | None:
        try:
            if isinstance(material, KeyMaterial):
                reference = comparing.secret_for_a_look(self.session, material.type, material.secret["VALUE"], operation)
            else:
                wrapping, may = wrapping_key(self.inventory, spec, material), comparing.permissions(operation)
                reference = making.unwrap_for_a_look(self.session, self.inventory, spec, material, wrapping, may)
        except Cryptoki as error:
            if isinstance(material, KeyMaterial) and not error.device:
                return None  # this token takes no key just to compare with
            error.message = f"{spec.where}: {error.message}"
            raise
        with for_a_moment(reference):
            return comparing.same_secret(self.session, self.inventory, item, reference, operation)

    def fingerprint(self, key: Key) -> str | None:
        """The key's fingerprint as the token gives it, or as it can be computed with it. For people: a failure gives None."""
        if key.fingerprint is not None or key.secret is None:
            return key.fingerprint
        handle = key.secret.handle
        if handle not in self._computed and handle not in self.inventory.raw:
            return None  # it is destroyed
        if handle not in self._computed:
            try:
                value = comparing.check_value(self.session, self.inventory, key.secret)
            except Cryptoki:
                value = None
            self._computed[handle] = value.hex() if value else None
        return self._computed[handle]

    def forget(self, key: Key) -> None:
        """The key is destroyed; its handle may be another's next."""
        for item in key.objects:
            self._computed.pop(item.handle, None)


class EmptyToken:
    """The look at a token that is not registered yet: there is no key on it to ask about."""

    def use(self, key: Key) -> Cryptoki | None:
        return None

    def does(self, item: KeyObject, operation: str) -> bool | None:
        return None

    def empty(self, key: Key) -> bool:
        return False

    def openable(self, spec: KeySpec) -> str | None:
        return None

    def unwraps(self, spec: KeySpec) -> tuple[str | None, Untold]:
        return None, ()

    def importable(self, spec: KeySpec) -> Cryptoki | None:
        return None

    def healthy(self) -> bool:
        return True

    def belongs(self, private: KeyObject, public: Mapping[str, bytes]) -> bool | None:
        return None

    def public_value(self, public_key: bytes) -> Mapping[str, bytes]:
        return {}

    def fingerprint(self, key: Key) -> str | None:
        return None

    def same(self, spec: KeySpec, key: Key) -> bool | None:
        return None
