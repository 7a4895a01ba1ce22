# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""From an entry's ``source:`` to key material, before any PKCS#11 library is loaded.

``cryptography`` (42 or later) is imported where it is needed: it costs 100 ms, and most runs import no key. What it says about a
key that it cannot load may quote the key, so its words never get into a problem.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from ..._model.errors import InputError
from ..._model.keys.material import SECRET_SIZES, KeyMaterial, WrappedMaterial, big_integer, ec_private_value, octet_string
from ..._model.keys.source_rules import KeySource, PrivateBlob, SourceProblem, private_blob, secret_value, weak_des3, wrapped_blob
from ..._model.keys.types import CURVES, ED25519_OID, FIXED_SIZES, HMAC_TYPES, LEAST_HMAC_BITS, is_short
from ..._model.pem import with_lines
from .key_forms import carried_public, taken_apart

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateNumbers

MAX_BYTES = 64 * 1024
LEAST_RSA_EXPONENT = 65537
LEAST_RSA_BITS = 2048  # NIST SP 800-131A revision 2, section 3: fewer are disallowed for signing

# cryptography's names, which are those of SEC 2 and RFC 5639, where ours are others.
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_WAYS_OUT = {
    errno.ENOENT: "check the path, which is one on the target",
    errno.EACCES: "run as the file's owner, or give this user a copy",
}


@dataclass(frozen=True)
class Loaded:
    """What a source holds, and what a person should hear about it though it is no error."""

    material: KeyMaterial | WrappedMaterial
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Public:
    """The public half of a pair, and what it tells of the pair. ``attributes``: CKA_ names without the prefix."""

    type: str
    size: int
    curve: str | None
    attributes: Mapping[str, bytes]
    der: bytes
    exponent: int | None = None


def read_source(
    source: KeySource, *, type: str, size: int | None, curve: str | None, allow_weak: bool, where: str, allowed: Collection[str] = ()
) -> Loaded:
    """The key that ``source`` names, checked against what is asked for.

    ``source`` has no :func:`.source_problems`. ``type`` is one of KEY_TYPES; ``size`` in bits and ``curve`` must be the key's where they
    are given. ``allow_weak`` lets in RSA under 2048 bits or with an exponent under 65537, DES3 with two equal neighbours, and
    keys for HMAC under 112 bits; whether DES is let in at all, the caller decides. ``allowed``: the mechanisms that the key will be
    restricted to, none for all. ``where`` names the entry, for example ``keys[0] (payments)``.

    Raises :class:`InputError` with every problem, each beginning with ``where.source.option: ``. None holds a part of the key or of
    the passphrase. ImportError where ``cryptography`` is missing.
    """
    problems: list[str] = []
    place = "src" if source.src is not None else "content"
    loaded: Loaded | None = None
    wrapping_key = source.wrapping_key
    if wrapping_key is None:
        with _collected(problems, where, place):
            loaded = _in_the_clear(source, type=type, size=size, curve=curve, allow_weak=allow_weak, where=where, allowed=allowed)
    else:
        blob, public = b"", None
        # Two options, read one after the other, so that a run tells the problems of both.
        with _collected(problems, where, place):
            data, _mode = _read(source)
            mechanism, format = source.mechanism, source.format
            blob = wrapped_blob(data, type=type, size=size, mechanism=mechanism, format=format, is_file=place == "src")
        with _collected(problems, where, "public_key"):
            if source.public_key is not None:
                public = _asked_public(source.public_key, type=type, size=size, curve=curve, allow_weak=allow_weak)
        loaded = _wrapped(wrapping_key, source.mechanism, blob, public, type=type, size=size, curve=curve)
    if problems or loaded is None:
        raise InputError(problems)
    return loaded


@contextmanager
def _collected(problems: list[str], where: str, option: str) -> Iterator[None]:
    """Turn a :class:`SourceProblem` into lines of ``problems``; ``option`` is to blame unless it names another."""
    try:
        yield
    except SourceProblem as problem:
        problems.extend(f"{where}.source.{problem.option or option}: {text}" for text in problem.texts)


def _in_the_clear(
    source: KeySource, *, type: str, size: int | None, curve: str | None, allow_weak: bool, where: str, allowed: Collection[str]
) -> Loaded:
    data, mode = _read(source)
    is_file, format = source.src is not None, source.format
    if type in SECRET_SIZES:
        value = secret_value(data, type=type, size=size, format=format, is_file=is_file)
        if type == "DES3" and not allow_weak and weak_des3(value):
            raise SourceProblem(
                "is a DES3 key no better than DES, as two neighbours of its three parts are equal: give another, or say allow_weak: true"
            )
        if is_short(type, len(value) * 8) and not allow_weak:
            raise SourceProblem(
                f"has {len(value) * 8} bits, and under {LEAST_HMAC_BITS} a key for HMAC is weak: give another, or say allow_weak: true"
            )
        material = KeyMaterial(type, len(value) * 8, None, {"VALUE": value}, check_value=key_check_value(type, value))
    else:
        blob = private_blob(data, type=type, format=format, is_file=is_file)
        material = _pair(_load_private(blob, source.passphrase, type, allowed), type, size, curve, allow_weak)
    if mode & 0o077:
        return Loaded(
            material,
            (
                f"{where}.source.src: {source.src} has mode {mode:04o}, so others can get at the key. Run chmod 0600 on it; it may be "
                "removed once the key is in the HSM.",
            ),
        )
    return Loaded(material)


def _wrapped(
    wrapping_key: str, mechanism: str | None, blob: bytes, public: _Public | None, *, type: str, size: int | None, curve: str | None
) -> Loaded:
    return Loaded(
        WrappedMaterial(
            blob,
            type=type,
            size=public.size if public else size,
            curve=public.curve if public else curve,
            wrapping_key=wrapping_key,
            mechanism=mechanism,
            public=public.attributes if public else {},
            public_key=public.der if public else None,
        )
    )


def _read(source: KeySource) -> tuple[bytes, int]:
    """The bytes of src or content, and the file's mode; 0 for content."""
    if source.content is not None:
        data, mode = _utf8(source.content.reveal(), None), 0
    else:
        data, mode = _read_file(source.src or "")
    if not data:
        raise SourceProblem("is empty")
    if len(data) > MAX_BYTES:
        raise SourceProblem(f"has more than {MAX_BYTES} bytes, so it is no key")
    return data, mode


def _read_file(path: str) -> tuple[bytes, int]:
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceProblem(f"{path} is not a regular file: give one that holds the key")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1), stat.S_IMODE(status.st_mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        way_out = _WAYS_OUT.get(error.errno or 0, "check the path")
        raise SourceProblem(f"{path} cannot be read: {error.strerror}: {way_out}") from None
    except UnicodeEncodeError:
        raise SourceProblem("contains a character that no path can have") from None


def _utf8(text: str, option: str | None) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SourceProblem("contains a character that UTF-8 cannot write", option) from None


def key_check_value(type: str, value: bytes) -> bytes | None:
    """The key check value of a secret key: 3 bytes (PKCS#11 3.1, CKA_CHECK_VALUE in section 4.10, and in 6.8.2 for GENERIC_SECRET).

    None where the system's policy forbids the cipher, as FIPS mode does for DES.
    """
    if type in HMAC_TYPES:
        return sha1(value, usedforsecurity=False).digest()[:3]
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers import Cipher, modes
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    if type == "AES":
        algorithm: Any = AES(value)
    else:
        # Three times the same key is single DES, which the library no longer has.
        algorithm = _triple_des()(value * 3 if type == "DES" else value)
    block = bytes(algorithm.block_size // 8)
    try:
        # CBC of one block of zeros with an IV of zeros is the ECB that the standard asks for.
        encryptor = Cipher(algorithm, modes.CBC(block)).encryptor()
    except UnsupportedAlgorithm:
        return None
    return (encryptor.update(block) + encryptor.finalize())[:3]


def _triple_des() -> Any:
    """The class, which cryptography 43 moved; the old place warns since."""
    try:
        from cryptography.hazmat.decrepit.ciphers import algorithms
    except ImportError:
        from cryptography.hazmat.primitives.ciphers import algorithms as older

        return older.TripleDES
    return algorithms.TripleDES


def _load_private(blob: PrivateBlob, passphrase: Any, type: str, allowed: Collection[str]) -> Any:
    """cryptography's private key object."""
    if blob.encrypted and passphrase is None:
        raise SourceProblem("is missing, and the key is encrypted: give it", "passphrase")
    if passphrase is not None and not blob.encrypted:
        raise SourceProblem("the key is not encrypted: leave it out", "passphrase")
    password = None if passphrase is None else _utf8(passphrase.reveal(), "passphrase")
    plain = taken_apart(blob)
    if plain is not None:
        plain.refuse(allowed)
    key, complaint = _try_load(blob, password, skip_rsa_checks=False)
    if key is None and plain is not None:
        with suppress(ValueError, TypeError):  # a part of it that was not looked at before is damaged
            key, _complaint = _try_load(plain.rewritten(), None, skip_rsa_checks=False)
    if key is not None:
        if plain is not None and plain.public not in (None, carried_public(key.public_key())):
            raise SourceProblem("is a key whose public part is not that of its private one: it is damaged")
        return key
    if blob.encrypted and "password" in complaint.lower():
        raise SourceProblem("does not open the key: it is wrong", "passphrase")
    if _try_load(blob, password, skip_rsa_checks=True)[0] is not None:
        raise SourceProblem("is an RSA key whose parts do not fit together: it is damaged")
    if blob.encrypted:
        # A wrong passphrase now and then decrypts to something that looks like text, so nobody can tell.
        raise SourceProblem("does not open the key: it is wrong, or the key is damaged or of an unknown kind", "passphrase")
    raise SourceProblem(f"holds a private key that cannot be loaded: it is damaged, or no {type} key of a known kind")


def _try_load(blob: PrivateBlob, password: bytes | None, *, skip_rsa_checks: bool) -> tuple[Any, str]:
    """The key, or None and what the library says, which must not be shown."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    load = load_pem_private_key if blob.pem else load_der_private_key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kinds of keys that will go: what we import is checked below
        try:
            return load(blob.data, password, unsafe_skip_rsa_key_validation=skip_rsa_checks), ""
        except Exception as error:  # a list of its errors would differ by version, and one that is missed would be shown
            return None, str(error)


def _pair(key: Any, type: str, size: int | None, curve: str | None, allow_weak: bool) -> KeyMaterial:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    public = _public_part(key.public_key(), type)
    _check_asked(public, size, curve, allow_weak)
    if type == "RSA":
        secret = _rsa_attributes(key.private_numbers())
    elif type == "EC":
        _check_ec_pair(key)
        value = ec_private_value(key.private_numbers().private_value, public.size)
        secret = {"EC_PARAMS": public.attributes["EC_PARAMS"], "VALUE": value}
    else:
        # RFC 8410, section 7: the seed, which PKCS#11 3.1, section 6.3.6, has as CKA_VALUE.
        seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        secret = {"EC_PARAMS": ED25519_OID, "VALUE": seed}
    return KeyMaterial(type, public.size, public.curve, secret, public.attributes, public.der)


def _rsa_attributes(numbers: RSAPrivateNumbers) -> dict[str, bytes]:
    """The attributes of PKCS#11 3.1, section 6.1.3, which are the parts of an RSAPrivateKey (RFC 8017, A.1.2), in its order."""
    p, q, d, n, e = numbers.p, numbers.q, numbers.d, numbers.public_numbers.n, numbers.public_numbers.e
    fits = p * q == n and e * d % (p - 1) == 1 and e * d % (q - 1) == 1
    if not (fits and numbers.dmp1 == d % (p - 1) and numbers.dmq1 == d % (q - 1) and q * numbers.iqmp % p == 1):
        # cryptography 42 lets in keys of three primes, newer ones do not; PKCS#11 has no place for the third.
        raise SourceProblem("is an RSA key whose parts do not fit together: it is damaged, or has more than two primes")
    names = ("MODULUS", "PUBLIC_EXPONENT", "PRIVATE_EXPONENT", "PRIME_1", "PRIME_2", "EXPONENT_1", "EXPONENT_2", "COEFFICIENT")
    return dict(zip(names, map(big_integer, (n, e, d, p, q, numbers.dmp1, numbers.dmq1, numbers.iqmp)), strict=True))


def _check_ec_pair(key: Any) -> None:
    """RFC 5915 carries the point beside the number: a file can hold a point of another key, and cryptography 42 lets it in."""
    from cryptography.hazmat.primitives.asymmetric.ec import derive_private_key

    numbers = key.private_numbers()
    try:
        fits = derive_private_key(numbers.private_value, key.curve).public_key().public_numbers() == numbers.public_numbers
    except ValueError:  # zero, or not below the order
        fits = False
    if not fits:
        raise SourceProblem("is an EC key whose public point is not that of its private value: it is damaged")


def _public_part(key: Any, asked: str) -> _Public:
    """The public half from cryptography's object; a :class:`SourceProblem` if it is not of the asked type."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    # No others by name: the library warns of some when they are looked up, and will drop them.
    kinds = {"RSA": rsa.RSAPublicKey, "EC": ec.EllipticCurvePublicKey, "Ed25519": ed25519.Ed25519PublicKey}
    kind = next((name for name, kind in kinds.items() if isinstance(key, kind)), None)
    if kind != asked:
        held = f"an {kind} key" if kind else f"a key that is none of {', '.join(kinds)}"
        raise SourceProblem(f"holds {held}, asked for {asked}")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if asked == "RSA":
        numbers = key.public_numbers()
        attributes = {"MODULUS": big_integer(numbers.n), "PUBLIC_EXPONENT": big_integer(numbers.e)}
        return _Public("RSA", numbers.n.bit_length(), None, attributes, der, numbers.e)
    if asked == "EC":
        curve = CURVES.get(_CURVE_NAMES.get(key.curve.name, key.curve.name))
        if curve is None:
            raise SourceProblem(f"holds an EC key on {key.curve.name}, which is not supported: use {', '.join(CURVES)}")
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _Public("EC", curve.bits, curve.name, {"EC_PARAMS": curve.der, "EC_POINT": octet_string(point)}, der)
    point = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _Public("Ed25519", FIXED_SIZES["Ed25519"], None, {"EC_PARAMS": ED25519_OID, "EC_POINT": octet_string(point)}, der)


def _check_asked(public: _Public, size: int | None, curve: str | None, allow_weak: bool) -> None:
    problems = []
    if curve is not None and curve != public.curve:
        problems.append(
            f"holds an {public.type} key on {public.curve}, asked for {curve}"
            if public.curve
            else f"holds an {public.type} key, asked for one on {curve}"
        )
    if size is not None and size != public.size:
        problems.append(f"holds an {public.type} key of {public.size} bits, asked for {size}")
    if public.type == "RSA" and public.size < LEAST_RSA_BITS and not allow_weak:
        problems.append(
            f"holds an RSA key of {public.size} bits, and under {LEAST_RSA_BITS} it is weak: give another, or say allow_weak: true"
        )
    if public.exponent is not None and public.exponent < LEAST_RSA_EXPONENT and not allow_weak:
        problems.append(
            f"holds an RSA key with the public exponent {public.exponent}, and under {LEAST_RSA_EXPONENT} it is weak (FIPS 186-5, section "
            "5.4): give another, or say allow_weak: true"
        )
    if problems:
        raise SourceProblem(problems[0], more=problems[1:])


def _asked_public(pem: str, *, type: str, size: int | None, curve: str | None, allow_weak: bool) -> _Public:
    """The public key in ``pem``: SubjectPublicKeyInfo (RFC 7468, section 13) or, for RSA, RSAPublicKey."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY-----" in pem:
        raise SourceProblem("holds a private key, and this option is not kept secret: give the public key, and consider the other exposed")
    key = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            key = load_pem_public_key(with_lines(_utf8(pem, None)))
        except SourceProblem:
            raise
        except Exception:
            key = None
    if key is None:
        raise SourceProblem("is no PEM block of type PUBLIC KEY, or it is damaged")
    public = _public_part(key, type)
    _check_asked(public, size, curve, allow_weak)
    return public
