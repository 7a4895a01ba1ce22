# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates in site: requests come to the controller, what a CA has issued goes to the tokens, and what is due is requested again.

This machine is the host and the controller, the CA is OpenSSL's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import Hsm, ok

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
KEY = {"type": "EC", "curve": "P-256", "operations": ["sign", "verify"], "extractable": True}
WEB: dict[str, Any] = {
    "instance": "primary",
    "key_label": "web-tls",
    "subject": {"O": "Example", "CN": "web01.example.com"},
    "subject_alt_names": ["DNS:web01.example.com"],
    "key_usage": ["digitalSignature"],
    "renew_before": "30d",
}
SHARED = {"group": "cards", "key_label": "shared-tls", "subject": {"CN": "pay.example.com"}}
ALONE = {"group": "cards", "key_label": "alone-tls", "subject": {"CN": "alone.example.com"}}  # which standby has no copy of
OWN = {"instance": "primary", "key_label": "test-tls", "subject": {"CN": "test.example.com"}, "self_signed": {"valid_days": 90}}


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


class Site:
    """One host with two tokens, and a folder on the controller."""

    def __init__(self, hsm: Hsm) -> None:
        self.hsm = hsm
        self.folder = hsm.scratch / "certificates"
        self.folder.mkdir()
        self.instances = [
            {**hsm.instance(name), "layout": "pkcs11", "tokens": [{"label": name, "pin_file": str(hsm.scratch / "pins" / name)}]}
            for name in ("primary", "standby")
        ]
        for instance in self.instances:
            ok(hsm.run("hsm_instance", **{**instance, "tokens": [hsm.token(instance["name"])]}))
        self.groups = [{"name": "cards", "key_scan": "own", "connections": [{"instance": "primary"}, {"instance": "standby"}]}]
        ok(hsm.run("hsm_group", **self.groups[0]))
        ok(hsm.keys({"label": "web-tls", **KEY}, {"label": "test-tls", **KEY}))
        ok(hsm.run("hsm_key", group="cards", keys=[{"label": "shared-tls", **KEY}]))
        ok(hsm.run("hsm_sync", group="cards", repair="wrap"))
        ok(hsm.run("hsm_key", group="cards", keys=[{"label": "alone-tls", **KEY, "extractable": False}]))
        openssl(*f"req -x509 -newkey rsa:2048 -nodes -keyout {self.ca}.key -out {self.ca}.pem -days 365 -subj /CN=CA".split())

    @property
    def ca(self) -> Path:
        return self.hsm.scratch / "ca"

    def request(self, name: str) -> Path:
        return self.folder / f"web1.{name}.csr"

    def issue(self, name: str, days: int) -> None:
        """The CA answers, and puts its own certificate before the new one, as some do."""
        issued = openssl(
            *f"x509 -req -in {self.request(name)} -copy_extensions copy -CA {self.ca}.pem -CAkey {self.ca}.key -days {days}".split()
        )
        self.request(name).with_suffix(".pem").write_text(Path(f"{self.ca}.pem").read_text() + issued)

    def run(self, certificates: list[dict[str, Any]], *arguments: str, **extra: Any) -> tuple[int, str]:
        """The exit code and what was said, on one line."""
        declared = {
            "hsm_registry": self.hsm.registry,
            "hsm_manage_softhsm": False,
            "hsm_instances": self.instances,
            "hsm_groups": self.groups,
            "hsm_certificates": certificates,
            "hsm_certificates_dir": str(self.folder),
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        }
        inventory = self.hsm.scratch / "inventory.json"
        inventory.write_text(json.dumps({"all": {"children": {"hsm": {"hosts": {"web1": declared}}}}}))
        command = [str(PLAYBOOK), "-i", str(inventory), "--diff", "--tags", "certificates", "-e", json.dumps(extra), *arguments]
        environment = {**os.environ, "ANSIBLE_HOME": str(self.hsm.scratch / "home"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*command, "keyfleet.hsm.site"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False
        )
        return done.returncode, " ".join(done.stdout.split())

    def subjects(self, token: str) -> list[str]:
        """Of the certificates on a token, by another program."""
        listed = self.hsm.tool("--list-objects", "--type", "cert", token=token, pin=None)
        return sorted(line.rpartition("CN=")[2] for line in listed.splitlines() if "subject:" in line)


@pytest.fixture
def site(hsm: Hsm) -> Site:
    return Site(hsm)


def changed(said: str) -> int:
    return int(said.rpartition("changed=")[2].split()[0])


def diff(said: str) -> str:
    """What the task shows, without the name of the run."""
    return said.partition("TASK [Certificates] ")[2].partition("TASK [Requests on the controller]")[0]


def test_a_certificate_from_its_request_to_its_renewal(site: Site) -> None:
    declared = [WEB, SHARED, OWN]
    code, planned = site.run(declared, "--check")
    assert code == 0 and changed(planned) == 1, planned
    assert list(site.folder.iterdir()) == [] and site.subjects("primary") == []
    code, said = site.run(declared)
    assert code == 0 and changed(said) == 1 and diff(said) == diff(planned) != "", said
    requests = {path.name: path.read_bytes() for path in site.folder.iterdir()}
    assert requests.keys() == {"web1.primary.web-tls.csr", "web1.cards.shared-tls.csr"}
    assert "web01.example.com" in openssl("req", "-verify", "-noout", "-text", "-in", str(site.request("primary.web-tls")))
    assert "key 'web-tls' has no certificate yet" in said and site.subjects("primary") == ["test.example.com"]
    # Issued for 20 days, of which 30 are asked for, and for 90. What signs itself is renewed by hand.
    site.issue("primary.web-tls", 20)
    site.issue("cards.shared-tls", 90)
    code, said = site.run([WEB, SHARED, {**OWN, "renew": True}, ALONE])
    assert code == 0 and changed(said) == 1 and "within renew_before: have a new one signed" in said, said
    assert site.subjects("primary") == ["pay.example.com", "test.example.com", "web01.example.com"]
    assert site.subjects("standby") == ["pay.example.com"]
    assert '"certificate test-tls"' in diff(said) and "valid_days" in diff(said)
    assert site.request("primary.web-tls").read_text().startswith("Replaces the certificate with the SHA-256 fingerprint ")
    assert site.request("cards.shared-tls").read_bytes() == requests["web1.cards.shared-tls.csr"]
    assert "failed=0" in said and site.request("cards.alone-tls").exists()
    # One is renewed, one goes, one has the certificate of another key, and the request of a new one is written nevertheless.
    site.issue("primary.web-tls", 90)
    site.request("cards.shared-tls").with_suffix(".pem").write_bytes(site.request("primary.web-tls").with_suffix(".pem").read_bytes())
    gone, new = {"instance": "primary", "key_label": "test-tls", "state": "absent"}, {**SHARED, "instance": "standby"}
    del new["group"]
    code, said = site.run([WEB, SHARED, gone, new])
    assert code == 2 and "hsm_certificates[1].issued_file: none of its 2 certificates belongs to this key" in said, said
    assert "within renew_before" not in said and site.subjects("primary") == ["pay.example.com", "web01.example.com"]
    assert site.request("standby.shared-tls").exists()
