# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key values as PKCS#11 attributes, and the rules of ``source:`` that need no file."""

from __future__ import annotations

import base64
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.material import (
    PAIR_TYPES,
    SECRET_SIZES,
    KeyMaterial,
    WrappedMaterial,
    big_integer,
    ec_private_value,
    octet_string,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.source_rules import (
    KeySource,
    PrivateBlob,
    SourceProblem,
    base64_bytes,
    hex_bytes,
    private_blob,
    secret_value,
    source_problems,
    weak_des3,
    wrapped_blob,
    wrapped_length_problem,
    wrapped_size,
)
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.types import HMAC_TYPES
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.secret import Secret
from asn1crypto.core import OctetString
from hypothesis import given
from hypothesis import strategies as st

CANARY = b"canary-canary-16"
SRC, CONTENT = {"src": "/root/key"}, {"content": Secret("00" * 16)}
WRAPPED = {**SRC, "wrapping_key": "kek"}


def secret_of(data: bytes, type: str = "AES", size: int | None = None, format: str | None = None, is_file: bool = True) -> bytes:
    return secret_value(data, type=type, size=size, format=format, is_file=is_file)


def blob_of(data: bytes, mechanism: str | None = None, is_file: bool = True, **options: Any) -> bytes:
    return wrapped_blob(data, **{"type": "RSA", "size": None, "format": None, "mechanism": mechanism, "is_file": is_file, **options})


def why(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(SourceProblem) as caught:
        function(*arguments, **options)
    return caught.value.text


# The classes


@pytest.mark.parametrize(
    "value",
    [
        KeyMaterial("AES", 128, None, {"VALUE": CANARY}, check_value=b"\x01\x02\x03"),
        WrappedMaterial(CANARY, type="AES", size=128, curve=None, wrapping_key="kek"),
        PrivateBlob(CANARY, pem=False, encrypted=False),
    ],
)
def test_no_repr_shows_the_key(value: object) -> None:
    forms = [repr(value), str(value), f"{value}", f"{[value]}"]
    assert all("canary" not in form and CANARY.hex() not in form for form in forms)
    assert type(value).__name__ in repr(value)


def test_material_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        KeyMaterial("AES", 128, None, {}).size = 256


def test_the_types_are_those_that_can_be_made() -> None:
    assert sorted(SECRET_SIZES.items()) == [
        ("AES", (128, 192, 256)),
        ("DES", (64,)),
        ("DES3", (192,)),
        *((name, range(64, 1025, 8)) for name in ("GENERIC_SECRET", "SHA224_HMAC", "SHA256_HMAC", "SHA384_HMAC", "SHA512_HMAC")),
    ]
    assert PAIR_TYPES == ("RSA", "EC", "Ed25519")


# Numbers


@given(st.integers(1, 2**4096))
def test_a_big_integer_has_no_leading_zero(number: int) -> None:
    value = big_integer(number)
    assert int.from_bytes(value, "big") == number
    assert value[0] != 0


@pytest.mark.parametrize(("bits", "length"), [(256, 32), (384, 48), (521, 66)])
def test_an_ec_value_has_the_fields_length(bits: int, length: int) -> None:
    assert ec_private_value(1, bits) == bytes(length - 1) + b"\x01"
    assert len(ec_private_value(2**bits - 1, bits)) == length


def test_an_octet_string_is_der() -> None:
    assert all(octet_string(bytes(length)) == OctetString(bytes(length)).dump() for length in range(256))


def test_a_point_is_never_longer() -> None:
    with pytest.raises(ValueError, match="256 bytes"):
        octet_string(bytes(256))


# Which options go together


@pytest.mark.parametrize(
    ("source", "type"),
    [
        (SRC, "AES"),
        (SRC, "RSA"),
        (CONTENT, "AES"),
        ({**CONTENT, "format": "base64", "src": None, "passphrase": None}, "DES3"),
        ({**SRC, "format": "der", "passphrase": Secret("p")}, "EC"),
        ({**SRC, "format": "raw"}, "AES"),
        (WRAPPED, "AES"),
        (WRAPPED, "RSA"),
        ({**WRAPPED, "mechanism": "RSA_PKCS_OAEP", "format": "raw"}, "AES"),
        ({**WRAPPED, "public_key": "x"}, "EC"),
        ({**WRAPPED, "public_key": "x", "format": "raw"}, "RSA"),
    ],
)
def test_good_options(source: dict[str, Any], type: str) -> None:
    assert source_problems(KeySource(**source), "keys[0] (k)", type=type) == []
    assert source_problems(KeySource(**source), "keys[0] (k)") == []


@pytest.mark.parametrize(
    ("source", "type", "problem"),
    [
        ({}, None, "src: is missing"),
        ({"src": None, "content": None}, None, "src: is missing"),
        ({**SRC, **CONTENT}, None, "content: src is given too"),
        ({"content": Secret("")}, None, "content: is empty"),
        ({**SRC, "format": "xml"}, None, "format: 'xml' is unknown"),
        ({**CONTENT, "format": "raw"}, None, "format: raw is no text"),
        ({**CONTENT, "format": "der"}, None, "format: der is no text"),
        ({**WRAPPED, "format": "pem"}, None, "format: a wrapped key has no pem form"),
        ({**SRC, "format": "pem"}, "AES", "format: pem is for RSA, EC and Ed25519"),
        ({**SRC, "format": "raw"}, "EC", "format: raw is for secret and wrapped keys"),
        ({**SRC, "passphrase": Secret("canary")}, "AES", "passphrase: is for PEM and DER"),
        ({**SRC, "passphrase": Secret("canary"), "format": "raw"}, None, "passphrase: is for PEM and DER"),
        ({**WRAPPED, "passphrase": Secret("canary")}, None, "passphrase: a wrapped key is opened by wrapping_key"),
        ({**SRC, "passphrase": Secret("")}, "RSA", "passphrase: is empty"),
        ({**SRC, "mechanism": "AES_KEY_WRAP"}, None, "mechanism: is for wrapped keys"),
        ({**SRC, "public_key": "canary"}, None, "public_key: is for wrapped keys"),
        ({**WRAPPED, "wrapping_key": " "}, None, "wrapping_key: is empty"),
        ({**WRAPPED, "mechanism": "AES_GCM"}, None, "mechanism: 'AES_GCM' is unknown"),
        ({**WRAPPED, "public_key": "x"}, "AES", "public_key: AES keys have none"),
        (WRAPPED, "EC", "public_key: is missing"),
        (WRAPPED, "Ed25519", "public_key: is missing"),
    ],
)
def test_bad_options(source: dict[str, Any], type: str | None, problem: str) -> None:
    (found,) = source_problems(KeySource(**source), "keys[3] (k)", type=type)
    assert found.startswith(f"keys[3] (k).source.{problem}")
    assert "canary" not in found


def test_all_bad_options_are_told_at_once() -> None:
    source: dict[str, Any] = {"format": "xml", "mechanism": "x", "public_key": "x", "passphrase": Secret("")}
    options = [problem.split(".source.")[1].split(":")[0] for problem in source_problems(KeySource(**source), "w")]
    assert options == ["src", "format", "passphrase", "mechanism", "public_key"]


# Text


@given(st.binary(min_size=1, max_size=200))
def test_text_is_read_back(value: bytes) -> None:
    assert hex_bytes(value.hex().encode()) == hex_bytes(value.hex(":").upper().encode() + b"\r\n") == value
    assert base64_bytes(base64.encodebytes(value)) == value


@pytest.mark.parametrize("text", [b"", b"\n", b"0", b"abc", b"0:0", b"0x00", b":00", b"00g0", "\u0663\u0663".encode()])
def test_no_hex(text: bytes) -> None:
    assert hex_bytes(text) is None


@pytest.mark.parametrize("text", [b"", b" ", b"AAA", b"AB==", b"A===", b"AA=A", b"AA-_", b"AAAA\xff", b"00:00"])
def test_no_base64(text: bytes) -> None:
    """``AB==`` has bits that belong to no byte, and was cut or changed."""
    assert base64_bytes(text) is None


# Secret keys


@pytest.mark.parametrize(
    ("type", "length"), [(type, bits // 8) for type, sizes in SECRET_SIZES.items() for bits in sizes[:: len(sizes) // 3 or 1]]
)
@given(st.data())
def test_a_secret_key_is_read_in_each_format(type: str, length: int, data: st.DataObject) -> None:
    value = data.draw(st.binary(min_size=length, max_size=length))
    for format, text in (("raw", value), ("hex", value.hex().encode()), ("base64", base64.b64encode(value))):
        assert secret_of(text, type, format=format) == secret_of(text, type, length * 8, format) == value
    assert secret_of(value.hex().encode() + b"\n", type, is_file=False) == value
    if type not in HMAC_TYPES or not value.endswith(b"\n"):
        assert secret_of(b"\xff" + value[1:], type) == b"\xff" + value[1:]  # a byte that no text has: it can only be raw


@given(st.binary(min_size=16, max_size=16))
def test_32_hex_digits_are_two_aes_keys(value: bytes) -> None:
    text = value.hex().encode()
    assert why(secret_of, text).startswith("can be read as bare bytes (256 bits) and as hex (128 bits)")
    assert secret_of(text, size=128) == secret_of(text, format="hex") == secret_of(text, is_file=False) == value
    assert secret_of(text, size=256, format="raw") == secret_of(text, format="raw") == text
    assert secret_of(text + b"\n") == value  # 33 bytes are no key


@pytest.mark.parametrize(
    ("type", "size", "text", "ways"),
    [
        ("AES", 256, b"ab" * 16, "bare bytes (256 bits) and as hex (128 bits) and as base64 (192 bits)"),
        ("AES", 256, base64.b64encode(bytes(range(24))), "bare bytes (256 bits) and as base64 (192 bits)"),
        ("AES", 192, base64.b64encode(bytes(16)), "bare bytes (192 bits) and as base64 (128 bits)"),
        ("AES", None, b"0123456789abcdef", "bare bytes (128 bits) and as hex (64 bits) and as base64 (96 bits)"),  # half of a key
        ("DES3", None, b"0123456789ABCDEF01234567", "bare bytes (192 bits) and as hex (96 bits) and as base64 (144 bits)"),
        ("GENERIC_SECRET", 128, b"passwordpassword", "bare bytes (128 bits) and as base64 (96 bits)"),
    ],
)
def test_text_that_is_hex_or_base64_is_not_taken_for_bare_bytes_because_its_size_fits(
    type: str, size: int | None, text: bytes, ways: str
) -> None:
    assert why(secret_of, text, type, size) == f"can be read as {ways}: give format"
    assert secret_of(text, type, size, "raw") == text


def test_raw_bytes_that_are_base64_of_a_key_are_not_guessed() -> None:
    text = base64.b64encode(b"\x00" * 15 + b"\x01")
    assert "as bare bytes (192 bits) and as base64 (128 bits)" in why(secret_of, text)
    assert secret_of(text, size=192, format="raw") == text
    assert secret_of(text, format="base64") == b"\x00" * 15 + b"\x01"
    assert "asked for 128 bits" in why(secret_of, text, size=128)  # base64 only where format says so


def test_an_options_hex_is_hex() -> None:
    """48 and 64 hex digits are base64 of no AES key, 32 are: of one of 192 bits. Without format an option is hex."""
    assert secret_of(b"ab" * 16, is_file=False) == b"\xab" * 16
    assert len(secret_of(b"ab" * 16, format="base64", is_file=False)) == 24


@pytest.mark.parametrize(
    ("data", "options", "problem"),
    [
        (b"\xff" * 32 + b"\n", {}, "has 33 bytes, the last is a newline"),
        (b"\xff" * 8 + b"\n", {"type": "DES"}, "has 9 bytes, the last is a newline"),
        (b"\xff" * 31, {}, "has 31 bytes, AES keys have 16 or 24 or 32"),
        (b"\xff" * 32 + b"\n", {"type": "GENERIC_SECRET"}, "has 33 bytes, the last is a newline: write the key without it, or give size"),
        (b"ab" * 32, {"type": "GENERIC_SECRET"}, "can be read as bare bytes (512 bits) and as hex (256 bits)"),
        (b"\xff" * 33, {"type": "GENERIC_SECRET", "size": 256}, "is a GENERIC_SECRET key of bare bytes (264 bits), asked for 256"),
        (b"\xff" * 7, {"type": "GENERIC_SECRET"}, "has 7 bytes, GENERIC_SECRET keys have 8 to 128"),
        (b"\xff" * 16, {"type": "DES3"}, "has 16 bytes, DES3 keys have 24"),
        (b"\xff" * 16, {"size": 256}, "is an AES key of bare bytes (128 bits), asked for 256 bits"),
        (b"00" * 16, {"size": 192}, "is an AES key of bare bytes (256 bits) and as hex (128 bits), asked for 192 bits"),
        (b"00" * 10, {}, "has 10 bytes in hex"),
        (b"00" * 10, {"format": "base64"}, "has 15 bytes in base64"),
        (b"zz" * 16, {"format": "hex"}, "is not hex"),
        (b"z", {"format": "base64"}, "is not base64"),
        (b"/+==" * 6, {"is_file": False}, "is not hex: give format if it is base64"),
        (b"-----BEGIN PRIVATE KEY-----", {}, "is PEM"),
    ],
)
def test_no_secret_key(data: bytes, options: dict[str, Any], problem: str) -> None:
    assert why(secret_of, data, **options).startswith(problem)


@pytest.mark.parametrize(
    ("length", "type", "size", "mechanism", "problem"),
    [
        (40, "AES", 256, "AES_KEY_WRAP", None),
        (40, "AES", 128, "AES_KEY_WRAP", "has 40 bytes: an AES key of the asked size has 24 when AES_KEY_WRAP wraps it"),
        (40, "AES", None, "AES_KEY_WRAP", None),
        (40, "DES3", None, "AES_KEY_WRAP", "has 40 bytes: a DES3 key of the asked size has 32 when AES_KEY_WRAP wraps it"),
        (48, "GENERIC_SECRET", 256, "AES_KEY_WRAP_KWP", "has 48 bytes: a GENERIC_SECRET key of the asked size has 40"),
        (48, "GENERIC_SECRET", 256, "AES_KEY_WRAP_PAD", None),  # over PKCS#7's padding, with NSS
        (48, "GENERIC_SECRET", 264, "AES_KEY_WRAP_PAD", None),
        (24, "AES", 128, "AES_KEY_WRAP_PAD", None),
        (256, "AES", 128, "RSA_PKCS_OAEP", None),
        (255, "AES", 128, "RSA_PKCS_OAEP", "has 255 bytes: what RSA_PKCS_OAEP makes with a key of 2048 bits has 256"),
    ],
)
def test_the_length_of_what_is_wrapped(length: int, type: str, size: int | None, mechanism: str, problem: str | None) -> None:
    found = wrapped_length_problem(bytes(length), type, size, mechanism, 2048)
    assert found is None if problem is None else found is not None and found.startswith(problem)


def test_the_size_that_a_length_tells() -> None:
    known = [wrapped_size(bytes(40), type=type, mechanism="AES_KEY_WRAP") for type in ("AES", "DES3", "GENERIC_SECRET", "RSA")]
    assert known == [256, 256, None, None]
    assert [wrapped_size(bytes(40), type="AES", mechanism=name) for name in ("AES_KEY_WRAP_PAD", "RSA_PKCS")] == [None, None]


K1, K2, K3 = b"\x01" * 8, b"\x04" * 8, b"\x07" * 8


def test_weak_des3_keys() -> None:
    twin = b"\x00" * 8  # K1 but for the parity bits
    assert all(weak_des3(value) for value in (K1 + K1 + K2, K2 + K1 + K1, K1 + twin + K2, K2 + twin + K1, K1 * 3))
    assert not weak_des3(K1 + K2 + K3)
    assert not weak_des3(K1 + K2 + K1)  # two-key triple DES


# Wrapped keys


@given(st.binary(min_size=24, max_size=600).filter(lambda blob: b"\xff" in blob))
def test_a_wrapped_key_is_read_in_each_format(blob: bytes) -> None:
    text = base64.encodebytes(blob)
    assert blob_of(blob) == blob_of(blob, format="raw") == blob
    assert blob_of(blob.hex().encode(), is_file=False) == blob_of(blob.hex().encode(), format="hex") == blob
    assert blob_of(text, format="base64") == blob_of(text, format="base64", is_file=False) == blob
    if hex_bytes(text) is None:
        assert blob_of(text, is_file=False) == blob


@pytest.mark.parametrize(
    ("data", "options", "problem"),
    [
        (b"ab" * 24, {}, "can be read as bare bytes and as hex"),
        (b"/+xy" * 8, {}, "can be read as bare bytes and as base64"),
        (b"a!", {"is_file": False}, "is neither hex nor base64"),
        (b"a!", {"format": "hex"}, "is not hex"),
        (b"\xff" * 25, {"mechanism": "AES_KEY_WRAP"}, "has 25 bytes: what"),
        (b"\xff" * 24 + b"\n", {"mechanism": "AES_KEY_WRAP_PAD"}, "has 25 bytes, the last is a newline"),
        (b"\xff" * 8, {"mechanism": "AES_KEY_WRAP"}, "has 8 bytes"),
        (b"\xff" * 24, {"mechanism": "AES_KEY_WRAP", "type": "AES", "size": 256}, "has 24 bytes: an AES key of the asked size has 40"),
        (b"\xff" * 16, {"mechanism": "AES_KEY_WRAP", "type": "AES"}, "has 16 bytes: an AES key of the asked size has 24 or 32 or 40"),
        (
            b"\xff" * 144,
            {"mechanism": "AES_KEY_WRAP", "type": "GENERIC_SECRET"},
            "has 144 bytes: a GENERIC_SECRET key of the asked size has 16 to",
        ),
    ],
)
def test_no_wrapped_key(data: bytes, options: dict[str, Any], problem: str) -> None:
    assert why(blob_of, data, **options).startswith(problem)


def test_the_length_of_a_wrapped_key_is_that_of_the_key() -> None:
    for bits in (128, 192, 256):
        assert blob_of(b"\xff" * (bits // 8 + 8), "AES_KEY_WRAP", type="AES", size=bits)
    assert blob_of(b"\xff" * 16, "AES_KEY_WRAP_PAD", type="DES")
    assert blob_of(b"\xff" * 48, "AES_KEY_WRAP_PAD", type="GENERIC_SECRET", size=264)
    assert blob_of(b"\xff" * 1232, "AES_KEY_WRAP_PAD")  # an RSA key's PKCS#8
    assert blob_of(b"\xff" * 257, "RSA_PKCS")


# Any bytes


@given(
    st.binary(max_size=80) | st.sampled_from([b"-----BEGIN PRIVATE KEY-----", b"0\x80", b"0\x03\x02\x01\x03", b"00" * 16, b"\x30\x84"]),
    st.sampled_from(["AES", "DES3", "DES"]),
    st.sampled_from([None, "raw", "hex", "base64"]),
    st.booleans(),
)
def test_any_bytes_are_a_key_or_a_problem(data: bytes, type: str, format: str | None, is_file: bool) -> None:
    for read in (
        lambda: secret_value(data, type=type, size=None, format=format, is_file=is_file),
        lambda: wrapped_blob(data, type=type, size=None, mechanism="AES_KEY_WRAP", format=format, is_file=is_file),
        lambda: private_blob(data, type="RSA", format=format, is_file=is_file),
    ):
        try:
            assert read()
        except SourceProblem as problem:
            assert problem.text
