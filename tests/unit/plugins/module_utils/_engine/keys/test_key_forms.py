# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys in the forms of other programs: read, or named for what they are, and never called damaged."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.source import read_source
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.source_rules import KeySource
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from asn1crypto import core, keys
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

Pair = Any
EC_KEY, ED_KEY = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PEM_LINE = 64


def pkcs8(key: Pair) -> bytes:
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def spki(key: Pair) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pem(der: bytes, kind: str = "PRIVATE KEY") -> str:
    text = b64encode(der).decode()
    lines = [text[start : start + PEM_LINE] for start in range(0, len(text), PEM_LINE)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def sequence(*parts: bytes) -> bytes:
    return bytes(core.Sequence(contents=b"".join(parts)).dump())


def version_2(key: Pair, public: bytes | None) -> bytes:
    """OneAsymmetricKey (RFC 5958, section 2) with the public key beside the private one, as ring and Java write it."""
    info = keys.PrivateKeyInfo.load(pkcs8(key))
    beside = b"" if public is None else b"\x81" + core.BitString(contents=b"\0" + public).dump()[1:]
    return sequence(core.Integer(1).dump(), info["private_key_algorithm"].dump(), info["private_key"].dump(), beside)


def test_an_ec_key_without_its_curve_is_refused() -> None:
    info = keys.PrivateKeyInfo.load(pkcs8(EC_KEY))
    unnamed = sequence(keys.PrivateKeyAlgorithmId("ec").dump())
    der = sequence(core.Integer(0).dump(), unnamed, info["private_key"].dump())
    with pytest.raises(InputError):
        read_source(KeySource(content=Secret(pem(der))), type="EC", size=None, curve="P-256", allow_weak=False, where="")


def point(key: Pair) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return bytes(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def short_sec1(key: ec.EllipticCurvePrivateKey) -> bytes:
    """ECPrivateKey whose number has no leading zeros, as old programs write it."""
    found = keys.ECPrivateKey.load(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    number = core.OctetString(found["private_key"].contents.lstrip(b"\0")).dump()
    return sequence(found["version"].dump(), number, found["parameters"].dump(), found["public_key"].dump())


def read(kind: str, data: bytes | str, folder: Path | None = None, **options: Any) -> Any:
    """The material of a key in an option, or in a file below ``folder``."""
    if folder is not None:
        path = folder / "key"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        path.chmod(0o600)
        source = KeySource(src=str(path), **options)
    else:
        source = KeySource(content=Secret(str(data)), **options)
    return read_source(source, type=kind, size=None, curve=None, allow_weak=False, where="keys[0] (k)").material


def refusal(kind: str, data: bytes | str, folder: Path | None = None) -> str:
    with pytest.raises(InputError) as raised:
        read(kind, data, folder)
    (problem,) = raised.value.details["problems"]
    assert "damaged" not in problem
    return str(problem)


@pytest.mark.parametrize(("kind", "key"), [("EC", EC_KEY), ("Ed25519", ED_KEY)])
def test_pkcs8_of_version_2(kind: str, key: Pair, tmp_path: Path) -> None:
    for public in (None, point(key)):
        der = version_2(key, public)
        assert read(kind, pem(der)).public_key == spki(key)
        assert read(kind, der, tmp_path).public_key == spki(key)


@pytest.mark.parametrize(("kind", "key"), [("EC", EC_KEY), ("Ed25519", ED_KEY)])
def test_a_public_part_of_another_key_is_told(kind: str, key: Pair) -> None:
    other = ec.derive_private_key(7, ec.SECP256R1()) if kind == "EC" else ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(InputError, match="public part is not that of its private one"):
        read(kind, pem(version_2(key, point(other))))


@given(st.integers(1, 2**64), st.sampled_from([ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]))
def test_an_ec_number_without_its_leading_zeros(number: int, curve: ec.EllipticCurve) -> None:
    key = ec.derive_private_key(number, curve)
    short = short_sec1(key)
    outer = keys.PrivateKeyInfo.load(pkcs8(key))
    wrapped = sequence(core.Integer(0).dump(), outer["private_key_algorithm"].dump(), core.OctetString(short).dump())
    for text in (pem(short, "EC PRIVATE KEY"), pem(wrapped)):
        found = read("EC", text)
        assert found.public_key == spki(key)
        assert int.from_bytes(found.secret["VALUE"], "big") == number


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_pem_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = pem(pkcs8(EC_KEY)).replace("\n", "\r\n")
    data = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    assert read("EC", data, tmp_path).public_key == spki(EC_KEY)


@pytest.mark.parametrize("end", ["\\n", "\\r\\n"])
def test_pem_on_one_line_as_environment_variables_have_it(end: str) -> None:
    assert read("EC", pem(pkcs8(EC_KEY)).replace("\n", end)).public_key == spki(EC_KEY)


def test_keys_of_other_programs_are_named(tmp_path: Path) -> None:
    putty = "PuTTY-User-Key-File-3: ecdsa-sha2-nistp256\nEncryption: none\n"
    table = {
        "puttygen FILE -O private-openssh": putty,
        "is a JSON Web Key": '{"kty":"EC","crv":"P-256","d":"canary"}',
        "give format: base64": b64encode(pkcs8(EC_KEY)).decode() + "\n",
        "OpenSSH's own format": EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
    }
    for way_out, text in table.items():
        for folder in (tmp_path, None):
            told = refusal("EC", text, folder)
            assert way_out in told
            assert "canary" not in told


def openssl_key(*options: str) -> str:
    command = ["openssl", "genpkey", *options]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def test_rsa_keys_that_a_token_could_not_hold_as_they_are() -> None:
    three = openssl_key("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_primes:3")
    assert "more than two primes, which PKCS#11 has no place for" in refusal("RSA", three)
    restricted = openssl_key("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha512")
    assert "for RSASSA-PSS alone" in refusal("RSA", restricted) and "[SHA512_RSA_PKCS_PSS]" in refusal("RSA", restricted)


@pytest.mark.parametrize(
    ("digest", "allowed", "kept"),
    [
        ("sha512", ["SHA512_RSA_PKCS_PSS"], True),
        ("sha512", ["SHA512_RSA_PKCS_PSS", "SHA256_RSA_PKCS_PSS"], False),
        ("sha512", ["RSA_PKCS_PSS"], False),
        ("", ["RSA_PKCS_PSS", "SHA256_RSA_PKCS_PSS"], True),
        ("", ["SHA256_RSA_PKCS_PSS", "RSA_PKCS"], False),
    ],
)
def test_a_pss_restriction_is_kept_by_the_mechanisms_that_are_allowed(digest: str, allowed: list[str], kept: bool) -> None:
    of_digest = ("-pkeyopt", f"rsa_pss_keygen_md:{digest}") if digest else ()
    text = openssl_key("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", *of_digest)
    source = KeySource(content=Secret(text))
    with nullcontext() if kept else pytest.raises(InputError, match="for RSASSA-PSS alone"):
        found = read_source(source, type="RSA", size=None, curve=None, allow_weak=False, where="", allowed=allowed)
        assert found.material.size == 2048


def test_a_small_exponent_is_weak() -> None:
    weak = rsa.generate_private_key(3, 2048)
    assert "public exponent 3, and under 65537 it is weak" in refusal("RSA", pem(pkcs8(weak)))
    source = KeySource(content=Secret(pem(pkcs8(weak))))
    assert read_source(source, type="RSA", size=None, curve=None, allow_weak=True, where="").material.public_key == spki(weak)
