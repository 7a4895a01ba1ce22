# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One KMS server with two HSMs, which the tests of an operator's month share. Each of them leaves it as the declaration says."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fleet_fixture import Fleet, Run, build_packages, text_of

HERE = Path(__file__).resolve().parent / "month"
MACHINE = "host1"
# Planted, and searched for in what the runs say.
PIN, SO_PIN, NEXT_PIN, WRONG_PIN = "640287315", "5920174836", "273915608", "718839052"
CANARIES = (PIN, SO_PIN, NEXT_PIN, WRONG_PIN)
ACCESS = "keyfleet.hsm.softhsm : Give the group access to the tokens"
WRITES_AND_STARTS = (
    "keyfleet.hsm.kms : Write the server's configuration",
    "keyfleet.hsm.service : Enabled and running, with its files as they are now",
)

# Every object of every token, as another program sees them. The PINs are those of the files.
TOKENS = """
import json, pathlib, pkcs11
found = {}
for slot in pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_slots(token_present=True):
    token = slot.get_token()
    pin = pathlib.Path("/etc/keyfleet/pins", token.label)
    if not pkcs11.TokenFlag.TOKEN_INITIALIZED in token.flags:
        continue
    keys = {}
    if pin.is_file() and not pkcs11.TokenFlag.USER_PIN_COUNT_LOW in token.flags:
        with token.open(user_pin=pin.read_text().strip()) as session:
            secret = list(session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}))
            keys = {key.label: key.encrypt(bytes(16), mechanism_param=bytes(16)).hex() for key in secret}
    found[token.label] = {"serial": token.serial.decode(), "low": pkcs11.TokenFlag.USER_PIN_COUNT_LOW in token.flags, "keys": keys}
print(json.dumps(found))
"""
DESTROY = """
import pkcs11
token = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label={token!r})
with token.open(rw=True, user_pin=open("/etc/keyfleet/pins/{token}").read().strip()) as session:
    session.get_key(label={key!r}).destroy()
"""


@dataclass
class Month:
    fleet: Fleet
    folder: Path
    runs: list[Run] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.fleet.addresses()[MACHINE]

    def run(self, *arguments: str, playbook: str = "keyfleet.hsm.site", **extra: Any) -> Run:
        run = self.fleet.playbook(playbook, "-i", str(self.folder / "inventory.yml"), "--diff", *arguments, extra=extra)
        self.runs.append(run)
        # For whoever looks why a test failed.
        (self.folder / f"run-{len(self.runs)}.txt").write_text(run.output)
        return run

    @contextmanager
    def edited(self) -> Iterator[dict[str, Any]]:
        """The declaration, to be edited."""
        path = self.folder / "group_vars/kms.yml"
        declared = yaml.safe_load(path.read_text())
        yield declared
        path.write_text(yaml.safe_dump(declared))

    def hosts(self, **addresses: str) -> None:
        """The hosts of the inventory, in this order."""
        kms = {"kms": {"hosts": {name: {"ansible_host": address} for name, address in addresses.items()}}}
        inventory = {"all": {"children": {"hsm": {"children": kms}}}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))

    def ssh(self, command: str, *, sure: bool = True) -> subprocess.CompletedProcess[str]:
        return self.fleet.ssh(MACHINE, command, sure=sure)

    def python(self, code: str) -> str:
        return self.ssh(f"sudo /opt/keyfleet/venv/bin/python - <<'END'\n{code}\nEND").stdout

    def tokens(self) -> dict[str, dict[str, Any]]:
        """Of each token by its label: serial number, whether its flags tell of a wrong PIN, and its keys, by what they compute."""
        found: dict[str, dict[str, Any]] = json.loads(self.python(TOKENS))
        return found

    def destroy(self, token: str, key: str) -> None:
        """What another program may do."""
        self.python(DESTROY.format(token=token, key=key))

    def folder_of(self, token: str) -> str:
        """Where SoftHSM2 keeps it."""
        found = self.ssh(f"sudo sh -c 'grep --text --files-with-matches {token} /var/lib/softhsm/tokens/*/token.object'").stdout
        return found.strip().removesuffix("/token.object")

    def started(self) -> str:
        """When the server was last started."""
        return self.ssh("systemctl show --property ActiveState,ActiveEnterTimestampMonotonic cosmian_kms").stdout

    def served(self) -> dict[int, str]:
        """What the server's file has: each slot, with its PIN."""
        read = json.loads(self.python("import json, tomllib; print(json.dumps(tomllib.load(open('/etc/cosmian/kms.toml', 'rb'))))"))
        return {instance["hsm_slot"][0]: instance["hsm_password"][0] for instance in read["hsm_instances"]}


def prepare(fleet: Fleet, scratch: Path) -> Month:
    shutil.copytree(HERE, scratch / "inventory")
    month = Month(fleet, scratch / "inventory")
    kept = {"double_packages": build_packages(scratch), "vault_pin": PIN, "vault_next_pin": NEXT_PIN, "vault_so_pin": SO_PIN}
    (month.folder / "group_vars/all.yml").write_text(yaml.safe_dump(kept))
    month.hosts(kms1=month.address)
    return month


def refused(run: Run, task: str, *told: str) -> None:
    """The run ended at this task, before it changed anything, and said so much."""
    assert run.code == 2 and run.changed() == {"kms1": 0}, run.failures()
    assert run.tasks("kms1", "fatal") == [task], run.failures()
    assert all(text in text_of(run) for text in told), run.failures()
