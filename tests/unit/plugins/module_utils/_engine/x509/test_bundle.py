# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CAs send, as openssl writes it: the certificates in it are found, or the way out is told."""

from __future__ import annotations

import re
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.x509.bundle import certificates_in
from hypothesis import given
from hypothesis import strategies as st


def openssl(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True).stdout


@pytest.fixture(scope="module", name="folder")
def files_of_a_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root.pem and leaf.pem, with leaf.key."""
    folder = tmp_path_factory.mktemp("ca")
    for name in ("root", "leaf"):
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        openssl(folder, *new, "-subj", f"/CN={name}", "-out", f"{name}.pem")
    both = (folder / "root.pem").read_bytes() + (folder / "leaf.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)
    return folder


def names(data: bytes) -> list[str]:
    return [str(found.values()["subject"]).removeprefix("CN=") for found in certificates_in(data)]


def test_pem_in_any_order_with_text_around_it(folder: Path) -> None:
    both = (folder / "both.pem").read_bytes()
    assert names(both) == ["root", "leaf"]
    assert names(b"\xef\xbb\xbf" + both.replace(b"\n", b"\r\n")) == ["root", "leaf"]
    assert names(both + both) == ["root", "leaf"]
    assert names(openssl(folder, "x509", "-in", "leaf.pem", "-text")) == ["leaf"]
    assert names((folder / "leaf.key").read_bytes() + both) == ["root", "leaf"]


@pytest.mark.parametrize("kind", ["X509 CERTIFICATE", "CERTIFICATE"])
def test_kinds_of_pem(folder: Path, kind: str) -> None:
    assert names((folder / "leaf.pem").read_bytes().replace(b"CERTIFICATE", kind.encode())) == ["leaf"]


def test_trusted_certificate(folder: Path) -> None:
    trusted = openssl(folder, "x509", "-in", "leaf.pem", "-trustout", "-addtrust", "serverAuth", "-setalias", "web")
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted
    assert names(trusted) == ["leaf"]


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_pkcs7(folder: Path, form: str) -> None:
    made = openssl(folder, "crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", form)
    assert sorted(names(made)) == ["leaf", "root"]
    assert sorted(names(made + b"\r\n")) == ["leaf", "root"]


def test_der_with_a_newline_behind_it(folder: Path) -> None:
    der = openssl(folder, "x509", "-in", "leaf.pem", "-outform", "DER")
    assert names(der) == names(der + b"\n") == ["leaf"]
    with pytest.raises(ValueError, match="more stands behind it"):
        certificates_in(der + der)


def test_line_ends_that_were_written_out(folder: Path) -> None:
    """As a variable of an environment has them; a private key in that shape is read, too."""
    text = (folder / "both.pem").read_bytes()
    for end in (b"\\n", b"\\r\\n"):
        assert certificates_in(text.replace(b"\n", end)) == certificates_in(text)


def test_a_serial_number_below_zero_is_an_old_ca_s(folder: Path) -> None:
    """The library warns of it, which is an error in tests and would be a line on the module's stderr."""
    der = bytearray(openssl(folder, "x509", "-in", "leaf.pem", "-outform", "DER"))
    place = der.index(b"\x02\x14")  # INTEGER of 20 bytes
    der[place + 2] = 0x80
    assert names(bytes(der)) == ["leaf"]


def test_what_is_none_is_told_with_the_way_out(folder: Path) -> None:
    der = openssl(folder, "x509", "-in", "leaf.pem", "-outform", "DER")
    p12 = openssl(folder, "pkcs12", "-export", "-inkey", "leaf.key", "-in", "leaf.pem", "-passout", "pass:x")
    request = openssl(folder, "req", "-new", "-key", "leaf.key", "-subj", "/CN=leaf")
    table = {
        "iconv -f UTF-16": (folder / "leaf.pem").read_text().encode("utf-16"),
        "openssl pkcs12 -in FILE -nokeys": p12,
        "have a CA sign it": request,
        "base64 -d": b64encode(der),
        "give it in PEM, DER or PKCS#7": b"",
    }
    for text, data in table.items():
        with pytest.raises(ValueError, match=re.escape(text)):
            certificates_in(data)
    for data in (der[:-1], b"\x30", b"\x30\x80", b"-----BEGIN CERTIFICATE-----\nAA!A\n-----END CERTIFICATE-----\n", b"\x00" * 99):
        with pytest.raises(ValueError, match="that can be read"):
            certificates_in(data)


@given(data=st.data())
def test_damage_is_told_and_nothing_else_happens(folder: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["leaf.der", "both.p7b"]))
    if not (folder / form).exists():
        openssl(folder, "x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der")
        openssl(folder, "crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", "DER", "-out", "both.p7b")
    damaged = bytearray((folder / form).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = certificates_in(bytes(damaged))
    except ValueError as error:
        assert "that can be read" in str(error)
    else:
        assert found
