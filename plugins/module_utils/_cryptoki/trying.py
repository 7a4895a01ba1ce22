# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a token can do, found by trying with keys of the session, which are destroyed at the end of each try.

A mechanism that the token does not list is not tried. Called in a read-only session, in which no token object can be made (PKCS#11 3.1,
section 5.6.1). A token that keeps such a key all the same is found by CKA_TOKEN, and nothing else is tried on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from .._model.errors import Cryptoki, TokenError
from .._model.keys.post_quantum import KEMS, PARAMETER_SETS, SIGNERS
from .._model.keys.types import CURVES, ED25519_OID, GENERIC, HMAC_TYPES, KEY_TYPES, ONE_HASH
from .attributes import read, read_value
from .binding import key_type, mechanism, pkcs11, typed
from .errors import calling
from .passing import agree_by_capsule, agreed_secret
from .roundtrip import MACS, SIGNING, wrong_answer
from .session import Session
from .wrap_mechanisms import PADDED, WHOLE

_BLOCKS = bytes(range(32))
_AES_BITS, _RSA_BITS = 256, 2048
_SECRET_BITS = {"AES": _AES_BITS, GENERIC: 512, **ONE_HASH}  # tokens take no HMAC key that is shorter than the hash
_PARAMETERS: dict[str, Callable[[], Any]] = {
    "AES_ECB": lambda: None,
    "AES_CBC": lambda: os.urandom(16),
    "AES_CBC_PAD": lambda: os.urandom(16),
    "AES_GCM": lambda: pkcs11.GCMParams(os.urandom(12)),
}
_WRAPPING = (WHOLE, *reversed(PADDED))
_FUNCTIONS = {
    "random": "C_GenerateRandom",
    "import": "C_CreateObject",
    "encrypt": "C_Encrypt",
    "sign": "C_Sign",
    "derive": "C_DeriveKey",
    "encapsulate": "C_EncapsulateKey",
    "wrap": "C_WrapKey",
}


@dataclass(frozen=True)
class Trial:
    """``works`` is None where python-pkcs11 could not try it, for example since the token does not report what the key may do."""

    capability: str
    type: str | None
    mechanism: str | None
    works: bool | None
    code: str | None = None
    error: str | None = None


@contextmanager
def for_this_session(raws: Sequence[Any], what: str) -> Iterator[None]:
    """Keys that are destroyed at the end. The body is left out, and :class:`TokenError` raised, where one is a token object."""
    kept = False
    try:
        with calling(f"{what}: reading CKA_TOKEN", "C_GetAttributeValue"):
            kept = any(read(raw, ("TOKEN",)).get("TOKEN") for raw in raws)
        if not kept:
            yield
    finally:
        gone = [_destroyed(raw) for raw in raws]
    if kept:
        end = "It was destroyed" if all(gone) else "It could not be destroyed, and has no label: remove it with the vendor's tools"
        raise TokenError(
            f"{what}: the token kept a key that was to live in this session only. {end}. Nothing else was tried.", code="key_kept"
        )


def _destroyed(raw: Any) -> bool:
    try:
        raw.destroy()
    except pkcs11.PKCS11Error:
        return False
    return True


def try_capabilities(session: Session, *, keys: bool) -> Iterator[Trial]:
    """One try after the other, the slowest last. ``keys``: whether this session can be expected to make keys.

    Raises :class:`TokenError` where the token keeps a key, :class:`Cryptoki` where a key that was made cannot be read.
    """
    tries = _Tries(session)
    yield from tries.random()
    if keys:
        symmetric = (tries.aes, tries.imported, tries.wrapping, tries.hmac)
        for attempt in (*symmetric, tries.ec, tries.agreement, tries.ed25519, tries.ml_dsa, tries.ml_kem, tries.rsa):
            yield from attempt()


class _Tries:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.mechanisms = session.mechanisms()
        self._generated: set[str] = set()
        self.private = "LOGIN_REQUIRED" in session.token.flags  # in a public session there are public objects only

    def _try(self, capability: str, kind: str | None, name: str | None, use: Callable[[], Any], function: str = "") -> tuple[Trial, Any]:
        """What came of it, and what ``use`` gave."""
        what = f"trying {capability}" + (f" with {name}" if name else f" of a key of type {kind}" if kind else "")
        try:
            with calling(what, function or _FUNCTIONS[capability]):
                return Trial(capability, kind, name, True), use()
        except Cryptoki as error:
            return Trial(capability, kind, name, False, error.code, error.message), None
        except (AttributeError, NotImplementedError, ValueError) as error:
            text = f"{what}: python-pkcs11 cannot: {type(error).__name__}: {error}"
            return Trial(capability, kind, name, None, None, text), None

    def random(self) -> Iterator[Trial]:
        def use() -> None:
            self._equal(len(set(self.session.raw.generate_random(256))) > 1, True)

        yield self._try("random", None, None, use)[0]

    def _equal(self, answer: Any, right: Any) -> None:
        if answer != right:
            raise wrong_answer(f"a trial on {self.session.token}")

    def _kept_out(self) -> dict[Any, Any]:
        attribute = pkcs11.Attribute
        return {attribute.PRIVATE: self.private, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False}

    def _generate(self, kind: str, flags: Any, **more: bool) -> list[Any]:
        """A key, or the public and the private half of a pair. Raises python-pkcs11's errors."""
        of_type, attribute = KEY_TYPES[kind], pkcs11.Attribute
        template = {**self._kept_out(), **{attribute[name]: value for name, value in more.items()}}
        common = {"store": False, "capabilities": flags, "mechanism": mechanism(of_type.generate)}
        ckk = key_type(of_type.ckk)
        if kind in _SECRET_BITS:
            return [typed(self.session.raw.generate_key(ckk, _SECRET_BITS[kind], template=template, **common), of_type.ckk)]
        if kind == "RSA":
            pair = self.session.raw.generate_keypair(ckk, _RSA_BITS, private_template=template, **common)
        elif kind in PARAMETER_SETS:
            public = {attribute.PARAMETER_SET: PARAMETER_SETS[kind].number}
            pair = self.session.raw.generate_keypair(ckk, public_template=public, private_template=template, **common)
        else:
            parameters = CURVES["P-256"].der if kind == "EC" else ED25519_OID
            domain = self.session.raw.create_domain_parameters(ckk, {attribute.EC_PARAMS: parameters}, local=True)
            pair = domain.generate_keypair(private_template=template, **common)
        return [typed(half, of_type.ckk) for half in pair]

    def _generating(self, kind: str, flags: Any, use: Callable[..., Iterator[Trial]], **more: bool) -> Iterator[Trial]:
        """Generate, and with what was made the trials of ``use``. Of the keys of a type that could be generated the first is a trial."""
        of_type = KEY_TYPES[kind]
        if of_type.generate not in self.mechanisms:
            return
        function = "C_GenerateKeyPair" if of_type.is_pair else "C_GenerateKey"
        trial, made = self._try("generate", kind, of_type.generate, partial(self._generate, kind, flags, **more), function)
        with for_this_session(made or (), f"generating a key of type {kind}"):
            if not trial.works or kind not in self._generated:
                yield trial
            if made is not None:
                self._generated.add(kind)
                yield from use(*made)

    def aes(self) -> Iterator[Trial]:
        flags = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
        yield from self._generating("AES", flags, self._encrypting)

    def _encrypting(self, key: Any) -> Iterator[Trial]:
        for name in _PARAMETERS:
            if name in self.mechanisms:
                yield self._try("encrypt", "AES", name, partial(self._encrypt, key, name))[0]

    def _encrypt(self, key: Any, name: str) -> None:
        how = {"mechanism": mechanism(name), "mechanism_param": _PARAMETERS[name]()}
        sealed = key.encrypt(_BLOCKS, **how)
        self._equal(_BLOCKS in sealed, False)
        self._equal(key.decrypt(sealed, **how), _BLOCKS)

    def imported(self) -> Iterator[Trial]:
        """A secret key made of a value, as an import in the clear does it."""
        attribute = pkcs11.Attribute
        template = {
            attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            attribute.KEY_TYPE: pkcs11.KeyType.AES,
            attribute.TOKEN: False,
            attribute.VALUE: os.urandom(_AES_BITS // 8),
            attribute.ENCRYPT: True,
            attribute.DECRYPT: True,
            **self._kept_out(),
        }
        trial, made = self._try("import", "AES", None, partial(self.session.raw.create_object, template))
        if made is not None:
            with for_this_session([made], "importing a key of type AES"):
                pass
        yield trial

    def wrapping(self) -> Iterator[Trial]:
        """One key wraps another, and unwraps it again."""
        if self.mechanisms.intersection(_WRAPPING):
            yield from self._generating("AES", pkcs11.MechanismFlag.WRAP | pkcs11.MechanismFlag.UNWRAP, self._with_guest)

    def _with_guest(self, key: Any) -> Iterator[Trial]:
        flags = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
        yield from self._generating("AES", flags, partial(self._wrapping, key), EXTRACTABLE=True)

    def _wrapping(self, key: Any, guest: Any) -> Iterator[Trial]:
        for name in _WRAPPING:
            if name not in self.mechanisms:
                continue
            trial, blob = self._try("wrap", "AES", name, partial(key.wrap_key, guest, mechanism=mechanism(name)))
            yield trial
            if blob is None:
                continue
            trial, again = self._try("unwrap", "AES", name, partial(self._unwrap, key, blob, name), "C_UnwrapKey")
            if again is not None:
                with for_this_session([again], "unwrapping a key of type AES"):
                    pass
            yield trial

    def _unwrap(self, key: Any, blob: bytes, name: str) -> Any:
        return key.unwrap_key(
            pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.KeyType.AES,
            blob,
            mechanism=mechanism(name),
            store=False,
            capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
            template=self._kept_out(),
        )

    def hmac(self) -> Iterator[Trial]:
        flags = pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY
        for kind in HMAC_TYPES:
            yield from self._generating(kind, flags, lambda key, kind=kind: self._signing(kind, key, key))

    def ec(self) -> Iterator[Trial]:
        yield from self._signer("EC")

    def ed25519(self) -> Iterator[Trial]:
        yield from self._signer("Ed25519")

    def ml_dsa(self) -> Iterator[Trial]:
        for kind in SIGNERS:
            yield from self._signer(kind)

    def ml_kem(self) -> Iterator[Trial]:
        flags = pkcs11.MechanismFlag.ENCAPSULATE | pkcs11.MechanismFlag.DECAPSULATE
        for kind in KEMS:
            yield from self._generating(kind, flags, partial(self._encapsulating, kind))

    def _encapsulating(self, kind: str, public: Any, private: Any) -> Iterator[Trial]:
        def use() -> None:
            self._equal(agree_by_capsule(public, private), True)

        yield self._try("encapsulate", kind, "ML_KEM", use)[0]

    def rsa(self) -> Iterator[Trial]:
        yield from self._signer("RSA")

    def _signer(self, kind: str) -> Iterator[Trial]:
        flags = pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY
        yield from self._generating(kind, flags, partial(self._signing, kind))

    def _signing(self, kind: str, public: Any, private: Any) -> Iterator[Trial]:
        for name in MACS[kind] if kind in HMAC_TYPES else SIGNING[kind]:
            if name in self.mechanisms:
                yield self._try("sign", kind, name, partial(self._sign, public, private, name))[0]

    def _sign(self, public: Any, private: Any, name: str) -> None:
        signature = private.sign(_BLOCKS, mechanism=mechanism(name))
        self._equal(public.verify(_BLOCKS, signature, mechanism=mechanism(name)), True)

    def agreement(self) -> Iterator[Trial]:
        if "ECDH1_DERIVE" in self.mechanisms:
            yield from self._generating("EC", pkcs11.MechanismFlag.DERIVE, self._deriving)

    def _deriving(self, public: Any, private: Any) -> Iterator[Trial]:
        trial, derived = self._try("derive", "EC", "ECDH1_DERIVE", partial(self._derive, public, private))
        if derived is not None:
            with for_this_session([derived], "deriving a key"):
                pass
        yield trial

    def _derive(self, public: Any, private: Any) -> Any:
        return agreed_secret(private, read_value(public, "EC_POINT"), self._kept_out())
