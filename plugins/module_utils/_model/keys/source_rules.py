# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""An entry's ``source:``: which options go together, and how its bytes are read. No file and no library is opened here.

Formats are told from the content only where there is one way to read it: a key that was read wrongly is a key, too, and shows
only when what it should open stays shut.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pem import with_lines
from ..quoting import quoted
from ..tokens.secret import Secret
from .material import PAIR_TYPES, SECRET_SIZES, UNWRAP_MECHANISMS
from .types import HMAC_TYPES

FORMATS = ("pem", "der", "raw", "hex", "base64")
_PAIR_NAMES = f"{', '.join(PAIR_TYPES[:-1])} and {PAIR_TYPES[-1]}"
_AES_MECHANISMS = tuple(name for name in UNWRAP_MECHANISMS if name.startswith("AES_"))
_HEX = re.compile(rb"\s*(?:[0-9a-fA-F]{2}[:\s]*)+")
_PEM_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PRIVATE_LABELS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")


class SourceProblem(Exception):
    """What is wrong with one option of a source, in words for a person that hold no secret; ``more`` has further problems of it.

    ``option`` is the one to blame; None means the one that holds the key, ``src`` or ``content``.
    """

    def __init__(self, text: str, option: str | None = None, *, more: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.option = option
        self.texts = (text, *more)


@dataclass(frozen=True)
class PrivateBlob:
    """A private key as a library can load it: one PEM block, or DER. ``encrypted``: it needs a passphrase."""

    data: bytes = field(repr=False)
    pem: bool
    encrypted: bool


@dataclass(frozen=True)
class KeySource:
    """The option ``source`` of an entry: exactly one of ``src`` (a path on the target) and ``content``. None: not given."""

    src: str | None = None
    content: Secret | None = None
    format: str | None = None
    passphrase: Secret | None = None
    wrapping_key: str | None = None
    mechanism: str | None = None
    public_key: str | None = None


def source_problems(source: KeySource, where: str, *, type: str | None = None) -> list[str]:
    """What is wrong with the options of ``source``, its file and content apart. Each begins with ``where.source.option: ``.

    ``type`` is the key's, and adds the rules that depend on it.
    """
    given = {option: value for option, value in vars(source).items() if value is not None}
    found = [*_place_problems(given), *_format_problems(given, type), *_passphrase_problems(given, type), *_wrapped_problems(given, type)]
    return [f"{where}.source.{option}: {text}" for option, text in found]


def _place_problems(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "src" in given and "content" in given:
        return [("content", "src is given too: give one of the two")]
    if "content" in given:
        return [] if given["content"] else [("content", "is empty: give the key, or src")]
    if "src" not in given:
        return [("src", "is missing: give src, a file on the target, or content")]
    return []


def _format_problems(given: Mapping[str, Any], type: str | None) -> list[tuple[str, str]]:
    name = given.get("format")
    if name is None:
        return []
    if name not in FORMATS:
        return [("format", f"{quoted(name)} is unknown: use one of {', '.join(FORMATS)}")]
    if name in ("raw", "der") and "content" in given:
        return [("format", f"{name} is no text: give it as src, or as hex or base64 in content")]
    if name in ("pem", "der") and "wrapping_key" in given:
        return [("format", f"a wrapped key has no {name} form: use raw, hex or base64")]
    if name in ("pem", "der") and type in SECRET_SIZES:
        return [("format", f"{name} is for {_PAIR_NAMES}: use raw, hex or base64 for {type}")]
    if name == "raw" and type in PAIR_TYPES and "wrapping_key" not in given:
        return [("format", f"raw is for secret and wrapped keys: use pem, der, hex or base64 for {type}")]
    return []


def _passphrase_problems(given: Mapping[str, Any], type: str | None) -> list[tuple[str, str]]:
    if "passphrase" not in given:
        return []
    if "wrapping_key" in given:
        return [("passphrase", "a wrapped key is opened by wrapping_key: leave the passphrase out")]
    if type in SECRET_SIZES or given.get("format") == "raw":
        return [("passphrase", f"is for PEM and DER of {_PAIR_NAMES} keys: leave it out")]
    return [] if given["passphrase"] else [("passphrase", "is empty: leave it out if the key is not encrypted")]


def _wrapped_problems(given: Mapping[str, Any], type: str | None) -> list[tuple[str, str]]:
    if "wrapping_key" not in given:
        return [(option, "is for wrapped keys: give wrapping_key, too") for option in ("mechanism", "public_key") if option in given]
    found = []
    if not given["wrapping_key"].strip():
        found.append(("wrapping_key", "is empty: give the label of the key on the token that opens this one"))
    if "mechanism" in given and given["mechanism"] not in UNWRAP_MECHANISMS:
        found.append(("mechanism", f"{quoted(given['mechanism'])} is unknown: use one of {', '.join(UNWRAP_MECHANISMS)}"))
    if "public_key" in given and type in SECRET_SIZES:
        found.append(("public_key", f"{type} keys have none: leave it out"))
    if "public_key" not in given and type in ("EC", "Ed25519"):
        # The private key object need not hold the point (PKCS#11 3.1, 6.3.4 and 6.3.6); an RSA one holds modulus and exponent.
        found.append(("public_key", f"is missing: a token does not tell it from a wrapped {type} key: give it as PEM"))
    return found


def hex_bytes(text: bytes) -> bytes | None:
    """The bytes that pairs of hex digits stand for, with colons and white space between pairs; None if it is no such text."""
    if not _HEX.fullmatch(text):
        return None
    return bytes.fromhex(text.replace(b":", b"").decode("ascii"))


def base64_bytes(text: bytes) -> bytes | None:
    """The bytes of base64 text (RFC 4648, section 4: padded, no stray bits), white space apart; None if it is no such text."""
    packed = b"".join(text.split())
    try:
        value = base64.b64decode(packed, validate=True)
    except ValueError:
        return None
    return value if packed and base64.b64encode(value) == packed else None


def _readings(data: bytes, format: str | None, is_file: bool) -> dict[str, bytes]:
    """Each way in which ``data`` can be read, by format. Without a format: bytes or hex in a file, hex in an option."""
    readers = {"raw": lambda raw: raw, "hex": hex_bytes, "base64": base64_bytes}
    names = [format] if format else ["raw", "hex"] if is_file else ["hex"]
    read = {name: readers[name](data) for name in names}
    return {name: value for name, value in read.items() if value is not None}


def secret_value(data: bytes, *, type: str, size: int | None, format: str | None, is_file: bool) -> bytes:
    """The value of a secret key: of AES 16, 24 or 32 bytes, of DES3 24, of DES 8, for HMAC 8 to 128.

    ``size`` is in bits and must be the value's, if given; ``format`` is raw, hex, base64 or None; ``is_file`` says that ``data``
    came from a file, so may be raw. Base64 is read only where ``format`` says so. Parity bits stay as they are. Raises
    :class:`SourceProblem`, also when the data can be read in two ways: what is hex or base64 from its first to its last byte is not
    taken for bare bytes, since the size that was asked for may be the mistake.
    """
    readings = _readings(data, format, is_file)
    valid = {name: value for name, value in readings.items() if len(value) * 8 in SECRET_SIZES[type]}
    fitting = {name: value for name, value in valid.items() if size in (None, len(value) * 8)}
    rivals = dict(fitting)
    if format is None and "raw" in fitting:
        texts = {"hex": hex_bytes(data), "base64": base64_bytes(data)}
        rivals |= {name: value for name, value in texts.items() if value is not None}
    if len(rivals) > 1:
        raise SourceProblem(f"can be read as {_ways(rivals)}: give format")
    if fitting:
        name, value = next(iter(fitting.items()))
        if type in HMAC_TYPES and format is None and size is None and name == "raw" and value.endswith(b"\n"):
            raise SourceProblem(f"has {len(value)} bytes, the last is a newline: write the key without it, or give size or format: raw")
        return value
    if valid:
        raise SourceProblem(f"is {_a(type)} key of {_ways(valid)}, asked for {size} bits: give the right key, size or format")
    raise SourceProblem(_why_no_secret(data, readings, type, format, is_file))


def _a(type: str) -> str:
    return f"{'a' if type.startswith(('D', 'G')) else 'an'} {type}"


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers)) if len(numbers) < 9 else f"{numbers[0]} to {numbers[-1]}"


def _ways(readings: Mapping[str, bytes]) -> str:
    names = {"raw": "bare bytes", "hex": "hex", "base64": "base64"}
    return " and as ".join(f"{names[name]} ({len(value) * 8} bits)" for name, value in readings.items())


def _why_no_secret(data: bytes, readings: Mapping[str, bytes], type: str, format: str | None, is_file: bool) -> str:
    lengths = [bits // 8 for bits in SECRET_SIZES[type]]
    wanted = f"{type} keys have {_either(lengths)}"
    if b"-----BEGIN " in data:
        return f"is PEM: {type} keys are bare bytes, hex or base64"
    if not readings:
        return f"is not {format or 'hex'}" + (": correct it, or format" if format else ": give format if it is base64")
    if "raw" in readings and data.endswith(b"\n") and len(data) - 1 in lengths and "hex" not in readings:
        return f"has {len(data)} bytes, the last is a newline: write the key without it, or give format if this is base64"
    name = "hex" if "hex" in readings else next(iter(readings))
    unit = "bytes" if name == "raw" else f"bytes in {name}"
    hint = "" if format or name == "hex" else ": give format if it is base64"
    return f"has {len(readings[name])} {unit}, {wanted}{hint}"


def wrapped_blob(data: bytes, *, type: str, size: int | None, mechanism: str | None, format: str | None, is_file: bool) -> bytes:
    """The ciphertext of a wrapped key: a file's bytes; hex, or else base64, in an option.

    Its length is judged here where ``mechanism`` is given, by :func:`wrapped_length_problem`. ``size`` is in bits. Raises
    :class:`SourceProblem`.
    """
    if format is not None:
        blob = _readings(data, format, is_file).get(format)
    elif is_file:
        # One ciphertext of 16 bytes, the shortest, in 2**30 looks like base64 by chance; it is asked about then, not misread.
        for name, reader in (("hex", hex_bytes), ("base64", base64_bytes)):
            if len(data) >= 16 and reader(data) is not None:
                raise SourceProblem(f"can be read as bare bytes and as {name}: give format")
        blob = data
    else:
        as_hex = hex_bytes(data)
        blob = as_hex if as_hex is not None else base64_bytes(data)
    if not blob:
        raise SourceProblem(f"is not {format}: correct it, or format" if format else "is neither hex nor base64")
    if mechanism is not None and (problem := wrapped_length_problem(blob, type, size, mechanism, bare=is_file and format != "hex")):
        raise SourceProblem(problem)
    return blob


def wrapped_length_problem(
    blob: bytes, type: str, size: int | None, mechanism: str, key_size: int | None = None, *, bare: bool = False
) -> str | None:
    """Why ``blob`` is not a wrapped key of this type and size, by its length; None where its length does not speak against it.

    AES wraps whole blocks of 8 bytes into one more (RFC 3394, section 2.2.1, and RFC 5649, section 4.1); a key for HMAC may be padded.
    What RSA encrypts has the length of its modulus, ``key_size`` in bits, and tells nothing of the key in it. ``bare``: the blob is a
    file as it is.
    """
    newline = ", the last is a newline" if bare and blob.endswith(b"\n") else ""
    if mechanism not in _AES_MECHANISMS:
        length = -(-key_size // 8) if key_size else len(blob)
        if len(blob) == length:
            return None
        return f"has {len(blob)} bytes{newline}: what {mechanism} makes with a key of {key_size} bits has {length}"
    if len(blob) % 8 or len(blob) < 16:
        return f"has {len(blob)} bytes{newline}: what {mechanism} makes has 16 or more, in eights"
    sizes = [bits for bits in SECRET_SIZES.get(type, ()) if size in (None, bits)]
    lengths = {-(-bits // 64) * 8 + 8 for bits in sizes}
    if mechanism == "AES_KEY_WRAP_PAD":  # on some tokens over PKCS#7's padding, which is never empty
        lengths |= {bits // 64 * 8 + 16 for bits in sizes}
    if not lengths or len(blob) in lengths:
        return None
    return f"has {len(blob)} bytes: {_a(type)} key of the asked size has {_either(sorted(lengths))} when {mechanism} wraps it"


def wrapped_size(blob: bytes, *, type: str, mechanism: str) -> int | None:
    """The bits of the secret key in ``blob``, where its length tells them."""
    exact = type in SECRET_SIZES and type not in HMAC_TYPES and mechanism in ("AES_KEY_WRAP", "AES_KEY_WRAP_KWP")
    return (len(blob) - 8) * 8 if exact else None


def weak_des3(value: bytes) -> bool:
    """Whether a DES3 value has K1=K2 or K2=K3, parity bits apart, and so is as weak as single DES (NIST SP 800-67, 3.2)."""
    first, second, third = (bytes(byte & 0xFE for byte in value[start : start + 8]) for start in (0, 8, 16))
    return second in (first, third)


def private_blob(data: bytes, *, type: str, format: str | None, is_file: bool) -> PrivateBlob:
    """The one private key in ``data``: PEM, with other blocks around it or not; DER; or hex or base64 of DER.

    Known forms: PKCS#8 (RFC 5958), encrypted or not, RSAPrivateKey (RFC 8017, A.1.2) and ECPrivateKey (RFC 5915), in PEM also
    encrypted. Raises :class:`SourceProblem`.
    """
    if format in (None, "pem"):
        data = _plain_text(data)
    if format == "pem" or (format is None and b"-----BEGIN " in data):
        return _private_pem(data, type)
    if format is None:
        _named(data)
        if not is_file:
            raise SourceProblem("is not PEM: give format if it is hex or base64 of DER")
        data = _without_end(data)
        if not _is_whole_der(data):
            raise SourceProblem("is neither PEM nor DER: give format if it is hex or base64 of DER")
    elif format in ("hex", "base64"):
        value = _readings(data, format, is_file).get(format)
        if value is None:
            raise SourceProblem(f"is not {format}: correct it, or format")
        data = value
    return _private_der(_without_end(data))


def _plain_text(data: bytes) -> bytes:
    """PEM in UTF-16, as Windows writes it, in UTF-8; line ends that were written out as two characters, as lines."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            data = data.decode("utf-16").encode("utf-8")
        except UnicodeError:
            return data
    return with_lines(data)


def _named(data: bytes) -> None:
    """Raises :class:`SourceProblem` for the forms of other programs, by their names."""
    start = data.lstrip()
    if start.startswith(b"PuTTY-User-Key-File-"):
        raise SourceProblem("is in PuTTY's own format: convert a copy with puttygen FILE -O private-openssh -o NEW")
    if start.startswith(b"{") and b'"kty"' in start:
        raise SourceProblem("is a JSON Web Key: have the program that made it write PEM (PKCS#8)")
    if _is_whole_der(base64_bytes(data) or b""):
        raise SourceProblem("is base64 without the lines that make it PEM: give format: base64")


def _private_pem(data: bytes, type: str) -> PrivateBlob:
    """RFC 7468 blocks; headers between label and base64 (RFC 1421) mark a traditional encrypted key."""
    keys, others, at = [], [], 0
    while begin := _PEM_BEGIN.search(data, at):
        label = begin[1]
        closing = b"-----END " + label + b"-----"
        at = data.find(closing, begin.end())
        if at < 0:
            raise SourceProblem("holds a PEM block without an end: give the whole of it")
        at += len(closing)
        if label.endswith(b"PRIVATE KEY"):
            keys.append((label, data[begin.start() : at] + b"\n"))
        else:
            others.append(label)
    if len(keys) > 1:
        raise SourceProblem(f"holds {len(keys)} private keys: give just one")
    if not keys:
        if not others:
            raise SourceProblem("holds no PEM block")
        kinds = {b"CERTIFICATE": "a certificate", b"PUBLIC KEY": "a public key", b"RSA PUBLIC KEY": "a public key"}
        named = sorted({kinds[label] for label in others if label in kinds})
        raise SourceProblem(f"holds no private key, only {' and '.join(named) or 'other PEM blocks'}: give the private key")
    label, block = keys[0]
    if label == b"OPENSSH PRIVATE KEY":
        since = " (for Ed25519 this needs OpenSSH 9.6 or later)" if type == "Ed25519" else ""
        raise SourceProblem(f"is in OpenSSH's own format: convert a copy with ssh-keygen -p -m PKCS8 -f FILE{since}")
    if label not in _PRIVATE_LABELS:
        raise SourceProblem(f"holds a private key of another kind, asked for {type}")
    return PrivateBlob(block, pem=True, encrypted=label.startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block)


def _element(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Tag, start and end of the content of the DER element at ``at`` (X.690, section 8.1); None where there is none."""
    if len(data) < at + 2:
        return None
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        count = length - 0x80
        if not 1 <= count <= 4:
            return None
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    return (tag, start, start + length) if start + length <= len(data) else None


def _without_end(data: bytes) -> bytes:
    """DER without blanks behind it, such as the newline of an editor."""
    outer = _element(data, 0)
    return data[: outer[2]] if outer is not None and not data[outer[2] :].strip() else data


def _is_whole_der(data: bytes) -> bool:
    outer = _element(data, 0)
    return outer is not None and outer[0] == 0x30 and outer[2] == len(data)


def _private_der(data: bytes) -> PrivateBlob:
    """Told apart by the first elements of the outer SEQUENCE; what is inside, the library checks."""
    if b"-----BEGIN " in data:
        raise SourceProblem("is PEM: give format: pem, or leave format out")
    first = _element(data, 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)) if _is_whole_der(data) else None
    if first is None:
        raise SourceProblem("is not DER, or not the whole of it")
    tag, start, end = first
    if tag == 0x02:  # a version; or the modulus of an RSAPublicKey (RFC 8017, A.1.1)
        if data[start:end] == b"\x03":
            raise SourceProblem("is PKCS#12: take the key out of it with openssl pkcs12 -in FILE -nocerts -out NEW")
        if end - start > 1:
            raise SourceProblem("holds no private key, only a public key: give the private key")
        return PrivateBlob(data, pem=False, encrypted=False)
    inner, second = _element(data, start), _element(data, end)
    if tag == 0x30 and inner is not None and inner[0] == 0x06 and second is not None:
        if second[0] == 0x04:  # EncryptedPrivateKeyInfo (RFC 5958, section 3)
            return PrivateBlob(data, pem=False, encrypted=True)
        if second[0] == 0x03:  # SubjectPublicKeyInfo
            raise SourceProblem("holds no private key, only a public key: give the private key")
    if tag == 0x30:
        raise SourceProblem("holds no private key, only a certificate or the like: give the private key")
    raise SourceProblem("is DER, but no key")
