# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EXAMPLES of every module are run, task by task in their order, against SoftHSM2.

Their text is run as it stands but for the folders in it, which are moved into the scratch folder. The variables that
they name, and the HSM that they meet, are made here.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hsm_fixture import PIN, SO_PIN, Hsm, ok

MODULES = sorted(path.stem for path in (Path(__file__).parents[3] / "plugins" / "modules").glob("*.py"))

# The examples of a module go on from where those of the modules before it left the HSM.
PLAYS = (
    ("hsm_instance", "hsm_info", "hsm_status", "hsm_certificate", "hsm_key", "hsm_sync", "hsm_group"),
    ("gateway_certificate",),
    ("kms_config",),
)
NEW_PIN = "558213"
PASSPHRASE = "correct horse 4711"
ZONE_KEY = "0123456789abcdeffedcba987654321089abcdef01234567"
FOLDERS = ("/etc/keyfleet", "/etc/cosmian", "/etc/fortanix", "/var/lib/keyfleet", "/var/lib/cosmian")


def examples(module: str, scratch: Path) -> list[dict[str, Any]]:
    text = importlib.import_module(f"ansible_collections.keyfleet.hsm.plugins.modules.{module}").EXAMPLES
    for folder in FOLDERS:
        text = re.sub(rf"(?<![\w/.]){folder}\b", f"{scratch}{folder}", text)
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def play(modules: Sequence[str], hsm: Hsm) -> dict[str, Any]:
    token = {"initialize": True, "so_pin": "{{ vault_so_pin }}", "pin": "{{ vault_pin }}"}
    pins = f"{hsm.scratch}/etc/keyfleet/pins"
    return {
        "name": " ".join(modules),
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {
            "group/keyfleet.hsm.hsm": {"registry": hsm.registry},
            "keyfleet.hsm.kms_config": {"config_path": f"{hsm.scratch}/etc/cosmian/kms.toml"},
        },
        "vars": {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "vault_so_pin": SO_PIN,
            "vault_pin": PIN,
            "vault_new_pin": NEW_PIN,
            "vault_legacy_passphrase": PASSPHRASE,
            "vault_zone_key": ZONE_KEY,
            "hsm_instances": [
                {
                    "name": "primary",
                    "model": "softhsm2",
                    "admins": ["ops@example.com"],
                    "tokens": [{"label": "payments", "pin_file": f"{pins}/payments", **token}],
                },
                {
                    "name": "standby",
                    "model": "softhsm2",
                    "tokens": [{"label": label, "pin_file": f"{pins}/{label}", **token} for label in ("payments-standby", "audit")],
                },
            ],
        },
        "tasks": [task for name in modules for task in examples(name, hsm.scratch)],
    }


def prepare(hsm: Hsm) -> None:
    """Folders, and the library's configuration at the place that an example names."""
    for folder in FOLDERS:
        Path(f"{hsm.scratch}{folder}").mkdir(parents=True)
    shutil.copy(hsm.environment["SOFTHSM2_CONF"], f"{hsm.scratch}/etc/keyfleet/softhsm2.conf")
    legacy = Path(f"{hsm.scratch}/etc/keyfleet/import/legacy.pem")
    legacy.parent.mkdir()
    legacy.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())
        )
    )
    legacy.chmod(0o600)
    given = legacy.with_name("gateway3.p12")
    ok(hsm.finish(hsm.start("gateway_certificate", {"path": str(given), "common_name": "gateway3.example.com"})))


def run_play(play: dict[str, Any], hsm: Hsm) -> subprocess.CompletedProcess[str]:
    playbook = hsm.scratch / "playbook.yml"
    playbook.write_text(yaml.safe_dump([play], sort_keys=False))
    settings = {
        "ANSIBLE_HOME": str(hsm.scratch / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(hsm.scratch / "ansible" / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_DEPRECATION_WARNINGS": "1",
    }
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        "-vvv",
        "--diff",
        str(playbook),
    ]
    return subprocess.run(
        command,
        cwd=hsm.scratch,
        env={**os.environ, **settings, **hsm.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_no_module_is_left_out() -> None:
    assert sorted(name for modules in PLAYS for name in modules) == MODULES


@pytest.mark.parametrize("modules", PLAYS, ids=lambda modules: modules[0])
def test_every_example_runs(modules: Sequence[str], hsm: Hsm) -> None:
    prepare(hsm)
    the_play = play(modules, hsm)
    done = run_play(the_play, hsm)
    tail = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == 0, tail
    begun = re.findall(r"^TASK \[(.*)\] \*+$", done.stdout, re.MULTILINE)
    assert begun == [task["name"] for task in the_play["tasks"]]
    counts = dict(re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2]))
    assert int(counts["ok"]) == len(begun), tail
    assert {counts[name] for name in ("failed", "unreachable", "skipped", "rescued", "ignored")} == {"0"}, tail
    assert "[WARNING]" not in done.stderr or _expected(done.stderr), done.stderr
    for secret in (PIN, SO_PIN, NEW_PIN, PASSPHRASE, ZONE_KEY):
        assert secret not in done.stdout + done.stderr


def _expected(text: str) -> bool:
    """Whether all warnings are ours, which examples may show."""
    return all("is kept as it is" in line for line in text.splitlines() if "[WARNING]" in line)


def test_a_broken_example_is_found(hsm: Hsm) -> None:
    """The test tests: an example that names a token which is not there."""
    prepare(hsm)
    broken = play(["hsm_instance"], hsm)
    broken["tasks"] = broken["tasks"][:1]
    broken["tasks"][0]["keyfleet.hsm.hsm_instance"]["tokens"][0]["initialize"] = False
    done = run_play(broken, hsm)
    assert done.returncode != 0
    assert "no token answers to label 'payments'" in done.stdout
