# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``source:`` becomes key material: files that other programs made, and everything that is wrong with a file."""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.public_key import public_key_der
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys import source as key_source
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.source import MAX_BYTES, Loaded, key_check_value, read_source
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.material import KeyMaterial, WrappedMaterial, big_integer
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.source_rules import KeySource, SourceProblem, source_problems
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import CURVES, HMAC_TYPES
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from asn1crypto.core import OctetString
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

WHERE = "keys[0] (k)"
PASSPHRASE = "canary pass phrase \u00e4"
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "P-521": int("01FF" + "F" * 62 + "FA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
    "secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "brainpoolP256r1": 0xA9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7,
    "brainpoolP384r1": int("8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B31F166E6CAC0425A7CF3AB6AF6B7FC3103B883202E9046565", 16),
    "brainpoolP512r1": int(
        "AADD9DB8DBE9C48B3FD4E6AE33C9FC07CB308DB3B3C9D20ED6639CCA70330870553E5C414CA92619418661197FAC10471DB1D381085DDADDB58796829CA90069",
        16,
    ),
}
CRYPTOGRAPHY_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
    "brainpoolP256r1": ec.BrainpoolP256R1,
    "brainpoolP384r1": ec.BrainpoolP384R1,
    "brainpoolP512r1": ec.BrainpoolP512R1,
}


@functools.cache
def rsa_key(size: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, size)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str | None, Any]:
    """Type, curve and key. EC values from 1, so that short ones occur."""
    kind = draw(st.sampled_from(["RSA", "EC", "Ed25519"]))
    if kind == "RSA":
        return kind, None, rsa_key(*draw(st.sampled_from([(2048, 65537), (2056, 65537), (3072, 65537)])))
    if kind == "Ed25519":
        return kind, None, ed25519.Ed25519PrivateKey.from_private_bytes(draw(st.binary(min_size=32, max_size=32)))
    curve = draw(st.sampled_from(sorted(CURVES)))
    value = draw(st.integers(1, ORDERS[curve] - 1) | st.integers(1, 2**64))
    return kind, curve, ec.derive_private_key(value, CRYPTOGRAPHY_CURVES[curve]())


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: str | None = None) -> str:
    return written(key, Encoding.PEM, form, passphrase).decode()


def written(key: Any, encoding: Encoding, form: PrivateFormat, passphrase: str | None = None) -> bytes:
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return bytes(key.private_bytes(encoding, form, encryption))


def public_pem(key: Any) -> str:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).decode()


def read(type: str, *, size: int | None = None, curve: str | None = None, allow_weak: bool = False, **source: Any) -> Loaded:
    for option in ("content", "passphrase"):
        if isinstance(source.get(option), str):
            source[option] = Secret(source[option])
    if "src" in source:
        source["src"] = str(source["src"])
    given = KeySource(**source)
    if found := source_problems(given, WHERE, type=type):
        raise InputError(found)
    return read_source(given, type=type, size=size, curve=curve, allow_weak=allow_weak, where=WHERE)


def material(type: str, **options: Any) -> KeyMaterial:
    found = read(type, **options).material
    assert isinstance(found, KeyMaterial)
    return found


def problems(type: str, **options: Any) -> list[str]:
    """The problems, without the entry's name. What Python would print of them must show no key and no passphrase."""
    with pytest.raises(InputError) as caught:
        read(type, **options)
    shown = "".join(traceback.format_exception(caught.value))
    assert "canary" not in shown.lower()
    assert all(line.startswith(f"{WHERE}.source.") for line in caught.value.problems)
    return [line.removeprefix(f"{WHERE}.source.") for line in caught.value.problems]


def file_of(folder: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def openssl(*arguments: str | Path, text: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, check=True, timeout=60).stdout


def integer(attributes: Any, name: str) -> int:
    assert attributes[name][0] != 0, name
    return int.from_bytes(attributes[name], "big")


def assert_same(found: KeyMaterial, key: Any, type: str, curve: str | None) -> None:
    """``found`` holds the numbers of ``key``, and no others."""
    assert (found.type, found.curve, found.check_value) == (type, curve, None)
    assert found.public_key == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_der(found.public) == found.public_key
    if type == "RSA":
        numbers = key.private_numbers()
        names = ["MODULUS", "PUBLIC_EXPONENT", "PRIVATE_EXPONENT", "PRIME_1", "PRIME_2", "EXPONENT_1", "EXPONENT_2", "COEFFICIENT"]
        parts = ("d", "p", "q", "dmp1", "dmq1", "iqmp")
        wanted = [numbers.public_numbers.n, numbers.public_numbers.e, *(getattr(numbers, part) for part in parts)]
        assert {name: integer(found.secret, name) for name in found.secret} == dict(zip(names, wanted, strict=True))
        assert found.public == {name: found.secret[name] for name in names[:2]}
        assert found.size == key.key_size
        return
    point = OctetString.load(found.public["EC_POINT"], strict=True).native
    assert set(found.secret) == {"EC_PARAMS", "VALUE"}
    assert found.secret["EC_PARAMS"] == found.public["EC_PARAMS"]
    if type == "EC":
        assert curve is not None
        assert found.secret["EC_PARAMS"] == CURVES[curve].der
        assert int.from_bytes(found.secret["VALUE"], "big") == key.private_numbers().private_value
        assert len(found.secret["VALUE"]) == (CURVES[curve or ""].bits + 7) // 8
        assert point == key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert found.size == key.curve.key_size
    else:
        assert found.secret["EC_PARAMS"] == bytes.fromhex("06032b6570")
        assert found.secret["VALUE"] == key.private_bytes_raw()
        assert point == key.public_key().public_bytes_raw()
        assert found.size == 256


# Pairs


@given(pairs(), st.sampled_from([None, PASSPHRASE]), st.data())
@settings(max_examples=40)
def test_a_pair_is_read_from_each_format(tmp_path_factory: Any, pair: Any, passphrase: str | None, data: st.DataObject) -> None:
    type, curve, key = pair
    form = PrivateFormat.PKCS8 if type == "Ed25519" else data.draw(st.sampled_from([PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]))
    options = {"type": type, "curve": curve, "size": key.key_size if type == "RSA" else None, "passphrase": passphrase}
    text = written(key, Encoding.PEM, form, passphrase)
    path = file_of(tmp_path_factory.mktemp("k"), text)
    variants: list[dict[str, Any]] = [{"src": path}, {"content": text.decode()}, {"content": text.decode(), "format": "pem"}]
    for variant in variants:
        assert_same(material(**options, **variant), key, type, curve)
    if passphrase and form == PrivateFormat.TraditionalOpenSSL:
        return  # has no DER
    der = written(key, Encoding.DER, form, passphrase)
    path.write_bytes(der)
    variants = [{"src": path}, {"src": path, "format": "der"}, {"content": der.hex(), "format": "hex"}]
    for variant in [*variants, {"content": base64.encodebytes(der).decode(), "format": "base64"}]:
        assert_same(material(**options, **variant), key, type, curve)


@pytest.mark.parametrize(
    ("type", "make"),
    [
        ("RSA", ["genrsa", "2048"]),
        ("RSA", ["genrsa", "-traditional", "2048"]),
        ("EC", ["ecparam", "-name", "prime256v1", "-genkey"]),  # EC PARAMETERS stands before the key
        ("EC", ["ecparam", "-name", "secp521r1", "-genkey", "-noout"]),
        ("Ed25519", ["genpkey", "-algorithm", "ed25519"]),
    ],
)
@pytest.mark.parametrize("cipher", ["", "pkcs8 -topk8 -v2 aes-256-cbc", "pkcs8 -topk8 -v1 PBE-SHA1-3DES", "pkcs8 -topk8 -scrypt"])
def test_a_pair_that_openssl_made(tmp_path: Path, type: str, make: list[str], cipher: str) -> None:
    plain = openssl(*make)
    public = openssl("pkey", "-pubout", "-outform", "DER", text=plain)
    if not cipher:
        assert material(type, content=plain.decode()).public_key == public
        return
    for form in ("PEM", "DER"):
        path = file_of(tmp_path, openssl(*cipher.split(), "-outform", form, "-passout", "pass:canary", text=plain))
        assert material(type, src=path, passphrase="canary").public_key == public
        assert problems(type, src=path, passphrase="canarx") in (
            ["passphrase: does not open the key: it is wrong"],
            ["passphrase: does not open the key: it is wrong, or the key is damaged or of an unknown kind"],
        )
        assert problems(type, src=path) == ["passphrase: is missing, and the key is encrypted: give it"]


@pytest.mark.parametrize("cipher", ["aes128", "des3"])
def test_a_traditional_encrypted_key_that_openssl_made(cipher: str) -> None:
    plain = openssl("genrsa", "2048")
    text = openssl("rsa", "-traditional", f"-{cipher}", "-passout", "pass:canary", text=plain).decode()
    assert "Proc-Type" in text
    found = material("RSA", content=text, passphrase="canary")
    assert found.public_key == openssl("pkey", "-pubout", "-outform", "DER", text=plain)
    assert problems("RSA", content=text) == ["passphrase: is missing, and the key is encrypted: give it"]
    assert "does not open the key" in problems("RSA", content=text, passphrase="canarx")[0]


def test_a_key_between_certificates() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert_same(material("EC", content=f"text\n{other}{pem(key)}{other}"), key, "EC", "P-256")
    assert_same(material("EC", content=pem(key).replace("\n", "\r\n")), key, "EC", "P-256")


EC_KEY = ec.derive_private_key(0xCA9A87, ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("type", "content", "options", "problem"),
    [
        ("EC", public_pem(EC_KEY), {}, "content: holds no private key, only a public key"),
        ("EC", CERTIFICATE, {}, "content: holds no private key, only a certificate"),
        ("EC", CERTIFICATE.replace("CERTIFICATE", "X509 CRL"), {}, "content: holds no private key, only other PEM blocks"),
        ("EC", pem(EC_KEY), {"passphrase": PASSPHRASE}, "passphrase: the key is not encrypted"),
        ("EC", pem(EC_KEY, passphrase=PASSPHRASE), {}, "passphrase: is missing, and the key is encrypted"),
        ("EC", pem(EC_KEY, passphrase=PASSPHRASE), {"passphrase": "canary"}, "passphrase: does not open the key"),
        ("EC", pem(EC_KEY, passphrase=PASSPHRASE), {"passphrase": "canary\ud800"}, "passphrase: contains a character"),
        (
            "EC",
            pem(EC_KEY, PrivateFormat.OpenSSH),
            {},
            "content: is in OpenSSH's own format: convert a copy with ssh-keygen -p -m PKCS8 -f",
        ),
        ("RSA", pem(EC_KEY), {}, "content: holds an EC key, asked for RSA"),
        ("EC", pem(ED_KEY), {}, "content: holds an Ed25519 key, asked for EC"),
        ("Ed25519", pem(ed448.Ed448PrivateKey.generate()), {}, "content: holds a key that is none of RSA, EC, Ed25519, asked for Ed25519"),
        ("EC", pem(x25519.X25519PrivateKey.generate()), {}, "content: holds a key that is none of RSA, EC, Ed25519, asked for EC"),
        ("EC", pem(ec.generate_private_key(ec.SECP224R1())), {}, "content: holds an EC key on secp224r1, which is not supported"),
        ("EC", pem(EC_KEY), {"curve": "P-384"}, "content: holds an EC key on P-256, asked for P-384"),
        ("EC", pem(EC_KEY), {"size": 384}, "content: holds an EC key of 256 bits, asked for 384"),
        ("Ed25519", pem(ED_KEY), {"curve": "P-256"}, "content: holds an Ed25519 key, asked for one on P-256"),
        ("EC", pem(EC_KEY) * 2, {}, "content: holds 2 private keys"),
        ("EC", pem(EC_KEY)[:-30], {}, "content: holds a PEM block without an end"),
        ("EC", pem(EC_KEY).replace("\nM", "\nN", 1), {}, "content: holds a private key that cannot be loaded"),
        ("EC", "canary", {}, "content: is not PEM: give format"),
        ("EC", "canary", {"format": "pem"}, "content: holds no PEM block"),
        ("EC", "canary", {"format": "hex"}, "content: is not hex"),
        ("EC", "00" * 9, {"format": "hex"}, "content: is not DER"),
        ("EC", pem(EC_KEY).encode().hex(), {"format": "hex"}, "content: is PEM"),
        ("EC", "canary\ud800", {}, "content: contains a character"),
        ("AES", "canary\ud800", {}, "content: contains a character"),
        ("EC", CERTIFICATE.replace("CERTIFICATE", "DSA PRIVATE KEY"), {}, "content: holds a private key of another kind, asked for EC"),
    ],
)
def test_no_pair(type: str, content: str, options: dict[str, Any], problem: str) -> None:
    (found,) = problems(type, content=content, **options)
    assert found.startswith(problem)


def test_what_der_holds_is_told_too(tmp_path: Path) -> None:
    public = EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    rsa_public = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    for der in (public, rsa_public):
        assert "only a public key" in problems("EC", src=file_of(tmp_path, der))[0]
    key = file_of(tmp_path, pem(EC_KEY))
    certificate = openssl("req", "-x509", "-key", key, "-subj", "/CN=t", "-outform", "DER")
    store = openssl("pkcs12", "-export", "-nocerts", "-inkey", key, "-passout", "pass:canary")
    assert "only a certificate" in problems("EC", src=file_of(tmp_path, certificate))[0]
    assert "openssl pkcs12" in problems("EC", src=file_of(tmp_path, store))[0]
    whole = written(EC_KEY, Encoding.DER, PrivateFormat.PKCS8)
    for der in (whole + b"\n", whole + b"\r\n"):  # as an editor leaves it
        assert material("EC", src=file_of(tmp_path, der)) == material("EC", src=file_of(tmp_path, der), format="der")
    for der in (whole + b"\n\0", whole[:-1]):
        assert "is not DER, or not the whole" in problems("EC", src=file_of(tmp_path, der), format="der")[0]
        assert "neither PEM nor DER" in problems("EC", src=file_of(tmp_path, der))[0]


def test_openssh_format_of_ed25519_needs_a_new_ssh_keygen() -> None:
    assert "OpenSSH 9.6" in problems("Ed25519", content=pem(ED_KEY, PrivateFormat.OpenSSH))[0]


def test_explicit_and_characteristic_two_curves_are_refused() -> None:
    """Older libraries load the one or the other, newer ones the other or the one."""
    for make in (["-name", "sect233r1"], ["-name", "secp224r1"], ["-name", "brainpoolP320r1"]):
        (found,) = problems("EC", content=openssl("ecparam", *make, "-genkey", "-noout").decode())
        assert "not supported" in found or "cannot be loaded" in found


def test_all_problems_of_a_key_are_told() -> None:
    found = problems("RSA", content=pem(rsa_key(1024)), size=2048)
    assert [line.split(",")[0] for line in found] == [
        "content: holds an RSA key of 1024 bits",
        "content: holds an RSA key of 1024 bits",
    ]
    assert "asked for 2048" in found[0]
    assert "allow_weak" in found[1]


@pytest.mark.parametrize(("size", "weak"), [(1024, True), (2040, True), (2048, False)])
def test_short_rsa_keys_need_allow_weak(size: int, weak: bool) -> None:
    text = pem(rsa_key(size))
    assert material("RSA", content=text, allow_weak=True).size == size
    if weak:
        assert "allow_weak" in problems("RSA", content=text)[0]
    else:
        assert material("RSA", content=text).size == size


@pytest.mark.parametrize("passphrase", [None, "canary"])
@pytest.mark.parametrize("part", ["d", "dmp1", "dmq1", "iqmp"])
def test_an_rsa_key_whose_parts_do_not_fit_is_refused(part: str, passphrase: str | None) -> None:
    numbers = rsa_key().private_numbers()
    parts = {name: getattr(numbers, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    parts[part] += 2
    key = rsa.RSAPrivateNumbers(**parts, public_numbers=numbers.public_numbers).private_key(unsafe_skip_rsa_key_validation=True)
    (found,) = problems("RSA", content=pem(key, passphrase=passphrase), passphrase=passphrase)
    assert found.startswith("content: is an RSA key whose parts do not fit together")


def test_an_rsa_key_with_another_prime_is_refused() -> None:
    prime, other = (big_integer(key.private_numbers().p) for key in (rsa_key(), rsa_key(2048, 3)))
    der = written(rsa_key(), Encoding.DER, PrivateFormat.TraditionalOpenSSL)
    assert prime in der
    (found,) = problems("RSA", content=der.replace(prime, other).hex(), format="hex")
    assert found.startswith(("content: is an RSA key whose parts do not fit", "content: holds a private key that cannot be loaded"))


def test_an_rsa_key_of_three_primes_is_refused() -> None:
    (found,) = problems("RSA", content=openssl("genrsa", "-primes", "3", "2048").decode())
    assert found.startswith("content: is an RSA key with more than two primes")


def test_an_ec_key_with_anothers_point_is_refused() -> None:
    der = written(EC_KEY, Encoding.DER, PrivateFormat.TraditionalOpenSSL)
    point, other = (
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for key in (EC_KEY, ec.derive_private_key(5, ec.SECP256R1()))
    )
    assert point in der
    (found,) = problems("EC", content=der.replace(point, other).hex(), format="hex")
    assert found.startswith(("content: is an EC key whose public point is not", "content: holds a private key that cannot be loaded"))


PARTS = ("p", "q", "d", "dmp1", "dmq1", "iqmp")


@pytest.mark.parametrize("part", PARTS)
def test_what_the_library_lets_in_is_checked_again(part: str) -> None:
    """Which of the two above the library refuses itself differs by version."""
    numbers = rsa_key().private_numbers()
    parts = {name: getattr(numbers, name) for name in PARTS}
    parts[part] += 2
    with pytest.raises(SourceProblem, match="do not fit together"):
        key_source._rsa_attributes(rsa.RSAPrivateNumbers(**parts, public_numbers=numbers.public_numbers))
    three_primes = rsa.RSAPublicNumbers(numbers.public_numbers.e, numbers.public_numbers.n * 65521)
    with pytest.raises(SourceProblem, match="more than two primes"):
        key_source._rsa_attributes(rsa.RSAPrivateNumbers(**{**parts, part: parts[part] - 2}, public_numbers=three_primes))
    key_source._rsa_attributes(numbers)


@pytest.mark.parametrize("value", [0, 5, ORDERS["P-256"]])
def test_a_point_that_the_library_lets_in_is_checked_again(value: int) -> None:
    mixed = ec.EllipticCurvePrivateNumbers(value, EC_KEY.public_key().public_numbers())
    with pytest.raises(SourceProblem, match="public point"):
        key_source._check_ec_pair(SimpleNamespace(curve=ec.SECP256R1(), private_numbers=lambda: mixed))
    key_source._check_ec_pair(EC_KEY)


def test_a_warning_of_the_library_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns of what it will drop, in words for programmers."""
    load = serialization.load_pem_private_key

    def warn(*arguments: Any, **options: Any) -> Any:
        warnings.warn("going", DeprecationWarning, stacklevel=2)
        return load(*arguments, **options)

    monkeypatch.setattr(serialization, "load_pem_private_key", warn)
    assert material("EC", content=pem(EC_KEY)).size == 256


# Secret keys


@pytest.mark.parametrize(
    ("type", "value", "check_value"),
    [
        ("AES", bytes(16), "66e94b"),
        ("AES", bytes(24), "aae069"),
        ("AES", bytes(32), "dc95c0"),
        ("DES", bytes(8), "8ca64d"),
        ("DES", b"\x01" * 8, "8ca64d"),  # the same key with odd parity
        ("DES", bytes.fromhex("0123456789abcdef"), "d5d44f"),
        ("DES3", bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123"), None),
        ("GENERIC_SECRET", b"a" * 33, "2368a1"),  # what SoftHSM 2.6.1 gives
        ("SHA256_HMAC", b"a" * 33, "2368a1"),
    ],
)
def test_check_values(type: str, value: bytes, check_value: str | None) -> None:
    """Against published values, and against openssl, which has no single DES without its legacy provider."""
    found = material(type, content=value.hex(), allow_weak=True).check_value
    assert found == key_check_value(type, value)
    assert check_value is None or found == bytes.fromhex(check_value)
    if type in HMAC_TYPES:
        return
    cipher = f"aes-{len(value) * 8}-ecb" if type == "AES" else "des-ede3"
    block = bytes(16 if type == "AES" else 8)
    key = value * 3 if type == "DES" else value
    assert found == openssl("enc", f"-{cipher}", "-K", key.hex(), "-nopad", text=block)[:3]


@given(st.binary(min_size=24, max_size=24))
@settings(max_examples=30)
def test_the_check_value_does_not_change_with_parity(value: bytes) -> None:
    assert key_check_value("DES3", value) == key_check_value("DES3", bytes(byte ^ 1 for byte in value))


def test_a_secret_key_from_a_file(tmp_path: Path) -> None:
    value = bytes(range(0xE0, 0x100))
    found = material("AES", src=file_of(tmp_path, value))
    assert found == KeyMaterial("AES", 256, None, {"VALUE": value}, {}, None, key_check_value("AES", value))
    assert "e0" not in repr(found).lower()
    assert problems("AES", src=file_of(tmp_path, value + b"\n"))[0].startswith("src: has 33 bytes, the last is a newline")
    assert problems("AES", src=file_of(tmp_path, "ca" * 16))[0].startswith("src: can be read as bare bytes (256 bits) and as hex")
    assert material("AES", src=file_of(tmp_path, "ca" * 16), size=128).secret["VALUE"] == b"\xca" * 16


def test_weak_des3_keys_need_allow_weak() -> None:
    text = "01" * 8 + "00" * 8 + "fe" * 8
    assert problems("DES3", content=text)[0].startswith("content: is a DES3 key no better than DES")
    assert material("DES3", content=text, allow_weak=True).size == 192


def test_short_secrets_need_allow_weak() -> None:
    assert problems("GENERIC_SECRET", content="0d" * 13)[0].startswith("content: has 104 bits, and under 112 a key for HMAC is weak")
    assert material("GENERIC_SECRET", content="0d" * 13, allow_weak=True).size == 104
    assert material("GENERIC_SECRET", content="0d" * 14).size == 112


# Wrapped keys


def wrapped(type: str, **options: Any) -> WrappedMaterial:
    loaded = read(type, wrapping_key="kek", **options)
    assert isinstance(loaded.material, WrappedMaterial)
    assert loaded.warnings == ()
    return loaded.material


def test_a_wrapped_key(tmp_path: Path) -> None:
    blob = b"\xff\x0a" * 12
    # Others may read what is encrypted: no warning.
    found = wrapped("AES", src=file_of(tmp_path, blob, 0o644), size=128, mechanism="AES_KEY_WRAP")
    assert found == WrappedMaterial(blob, "AES", 128, None, "kek", "AES_KEY_WRAP", {}, None)
    assert wrapped("RSA", content=blob.hex()) == WrappedMaterial(blob, "RSA", None, None, "kek")
    assert wrapped("RSA", content=base64.b64encode(blob).decode()).blob == blob


@given(pairs())
@settings(max_examples=20)
def test_the_public_key_of_a_wrapped_pair_is_that_of_the_pair(pair: Any) -> None:
    type, curve, key = pair
    found, clear = wrapped(type, content="00" * 24, public_key=public_pem(key)), material(type, content=pem(key))
    assert (found.public, found.public_key, found.size, found.curve) == (clear.public, clear.public_key, clear.size, curve)
    assert wrapped(type, content="00" * 24, public_key=public_pem(key).replace("\n", "\\n")) == found


@pytest.mark.parametrize(
    ("type", "options", "problem"),
    [
        ("EC", {"public_key": public_pem(ED_KEY)}, "public_key: holds an Ed25519 key, asked for EC"),
        ("EC", {"public_key": public_pem(EC_KEY), "curve": "P-521"}, "public_key: holds an EC key on P-256, asked for P-521"),
        ("EC", {"public_key": "canary"}, "public_key: is no PEM block of type PUBLIC KEY"),
        ("EC", {"public_key": "canary\ud800"}, "public_key: contains a character"),
        ("EC", {"public_key": pem(EC_KEY)}, "public_key: holds a private key"),
        ("EC", {}, "public_key: is missing"),
        ("RSA", {"public_key": public_pem(rsa_key(1024))}, "public_key: holds an RSA key of 1024 bits"),
        ("AES", {"content": "00" * 24, "mechanism": "AES_KEY_WRAP", "size": 256}, "content: has 24 bytes"),
    ],
)
def test_no_wrapped_key(type: str, options: dict[str, Any], problem: str) -> None:
    (found,) = problems(type, wrapping_key="kek", **{"content": "00" * 40, **options})
    assert found.startswith(problem)


def test_both_halves_of_a_wrapped_key_are_looked_at() -> None:
    found = problems("EC", content="canary!", wrapping_key="kek", public_key="canary")
    assert [line.split(":")[0] for line in found] == ["content", "public_key"]


# Files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_get_at_is_told(tmp_path: Path, mode: int) -> None:
    path = file_of(tmp_path, "00" * 16, mode)
    loaded = read("AES", src=path, size=128)
    assert loaded.warnings == (
        f"{WHERE}.source.src: {path} has mode {mode:04o}, so others can get at the key. Run chmod 0600 on it; it may be removed once "
        "the key is in the HSM.",
    )
    path.chmod(0o600)
    assert read("AES", src=path, size=128).warnings == ()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(link)
    big = file_of(tmp_path, bytes(MAX_BYTES + 1))
    cases = {
        tmp_path: f"{tmp_path} is not a regular file",
        fifo: f"{fifo} is not a regular file",
        tmp_path / "none": f"{tmp_path}/none cannot be read: No such file or directory: check the path, which is one on the target",
        link: f"{link} cannot be read: Too many levels of symbolic links: check the path",
        Path("/dev/zero"): "/dev/zero is not a regular file",
        big: "has more than 65536 bytes",
        tmp_path / "\ud800": "contains a character that no path can have",
    }
    for path, problem in cases.items():
        (found,) = problems("AES", src=path)
        assert found.startswith(f"src: {problem}")
    assert problems("AES", src=file_of(tmp_path, ""))[0] == "src: is empty"
    link.unlink()
    link.symlink_to(file_of(tmp_path, b"\xff" * 16))
    assert material("AES", src=link).size == 128


def test_a_file_of_another_user(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"\xff" * 16, 0)
    if os.geteuid() == 0:
        assert material("AES", src=path).size == 128  # root reads all
    else:
        assert problems("AES", src=path)[0].endswith("Permission denied: run as the file's owner, or give this user a copy")


def test_wrong_options_are_told_before_a_file_is_opened() -> None:
    found = problems("AES", passphrase=PASSPHRASE, mechanism="x")
    assert [line.split(":")[0] for line in found] == ["src", "passphrase", "mechanism"]


# Anything


NOISE = st.text(max_size=60) | st.builds(
    lambda label, text: f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n",
    st.sampled_from(["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY"]),
    st.binary(max_size=60).map(lambda value: base64.b64encode(value).decode()) | st.text(max_size=60),
)


@given(
    NOISE,
    st.sampled_from(["AES", "DES3", "DES", "RSA", "EC", "Ed25519"]),
    st.sampled_from([None, "pem", "hex", "base64"]),
    st.none() | st.text(max_size=8),
    st.none() | NOISE,
)
@settings(max_examples=400)
def test_any_text_is_a_key_or_an_input_error(text: str, type: str, format: str | None, passphrase: str | None, public: str | None) -> None:
    wrapping = {} if public is None else {"wrapping_key": "kek", "public_key": public}
    text += "canary"  # never in what is shown, see problems()
    for content in (text, text.removesuffix("canary")):
        try:
            assert read(type, content=content, format=format, passphrase=passphrase, **wrapping).material.type == type
        except InputError as error:
            assert error.problems
            assert "canary" not in str(error)


@given(st.sampled_from([PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]), st.data())
@settings(max_examples=80)
def test_a_damaged_key_is_a_key_or_an_input_error(form: PrivateFormat, data: st.DataObject) -> None:
    type, _curve, key = data.draw(pairs())
    der = bytearray(written(key, Encoding.DER, PrivateFormat.PKCS8 if type == "Ed25519" else form))
    for _change in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    for content, format in ((der.hex(), "hex"), (base64.b64encode(der).decode(), "base64")):
        try:
            read(type, content=content, format=format)
        except InputError as error:
            assert not any(content[start : start + 16] in str(error) for start in range(0, len(content) - 16, 8))


@given(st.binary(min_size=16, max_size=40), st.sampled_from(["AES", "DES3", "DES", "RSA", "EC"]), st.sampled_from([None, "hex", "base64"]))
def test_no_problem_quotes_the_key(value: bytes, type: str, format: str | None) -> None:
    for text in (value.hex() + "z", base64.b64encode(value).decode() + "!", "x" + pem(EC_KEY)[:-40]):
        with pytest.raises(InputError) as caught:
            read(type, content=text, format=format)
        shown = "".join(traceback.format_exception(caught.value))
        assert not any(
            text[start : start + 12] in shown for start in range(0, len(text) - 12, 4) if "BEGIN" not in text[start : start + 12]
        )


def test_the_library_is_imported_only_for_a_source() -> None:
    """It costs 100 ms, and most runs have no source."""
    module = "ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.source"
    code = f"import sys; import {module}; sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
