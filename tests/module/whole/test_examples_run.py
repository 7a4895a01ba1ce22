# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The EXAMPLES of every module, and the snippets of the guides, are run, task by task in their order, against SoftHSM2.

The text of examples is run as it stands but for the folders in it, which are moved into the scratch folder. The variables that
they name, and the HSM that they meet, are made here. The guides are run as they stand, by one user in one folder: what a page leaves is
what the next one meets.
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

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from guides import blocks, followed, pages
from hsm_fixture import PIN, SO_PIN, Hsm, ok

MODULES = sorted(path.stem for path in (Path(__file__).parents[3] / "plugins" / "modules").glob("*.py"))

# The examples of a module go on from where those of the modules before it left the HSM.
PLAYS = (
    ("hsm_instance", "hsm_info", "hsm_certificate", "hsm_status", "hsm_key", "hsm_sync", "hsm_status_info", "hsm_group", "hsm_registry"),
    ("gateway_certificate",),
    ("kms_config", "host_look"),
)
NEW_PIN = "pin-5582"
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


def new_hsm(folder: Path) -> Hsm:
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    return Hsm(folder)


def prepare(hsm: Hsm, modules: Sequence[str]) -> None:
    """Folders, and the library's configuration at the place that an example names."""
    for folder in FOLDERS:
        Path(f"{hsm.scratch}{folder}").mkdir(parents=True)
    shutil.copy(hsm.environment["SOFTHSM2_CONF"], f"{hsm.scratch}/etc/keyfleet/softhsm2.conf")
    given = Path(f"{hsm.scratch}/etc/keyfleet/import")
    given.mkdir()
    if "hsm_key" in modules:
        legacy = given / "legacy.pem"
        legacy.write_bytes(
            rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())
            )
        )
        legacy.chmod(0o600)
    if "gateway_certificate" in modules:
        options = {"path": str(given / "gateway3.p12"), "common_name": "gateway3.example.com"}
        ok(hsm.finish(hsm.start("gateway_certificate", options)))


def run_plays(plays: Sequence[dict[str, Any]], hsm: Hsm) -> subprocess.CompletedProcess[str]:
    playbook = hsm.scratch / "playbook.yml"
    playbook.write_text(yaml.safe_dump(list(plays), sort_keys=False))
    settings = {
        "ANSIBLE_HOME": str(hsm.scratch / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(hsm.scratch / "ansible" / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_DEPRECATION_WARNINGS": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        # As in the virtual environment of who runs it.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "--diff", str(playbook)]
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


def test_every_example_runs_and_so_do_the_guides_in_their_order_for_one_user(tmp_path: Path) -> None:
    """In one process of Ansible: most of what a play costs is to start it and to pack the modules."""
    plays = []
    for number, modules in enumerate(PLAYS):
        hsm = new_hsm(tmp_path / str(number))
        prepare(hsm, modules)
        plays.append({**play(modules, hsm), "environment": hsm.environment})
    user = new_hsm(tmp_path / "user")
    output = all_go_well([*plays, *followed(user.scratch)], user)
    made = [path.read_text().strip() for path in (user.scratch / "secrets").iterdir()]
    for secret in (PIN, SO_PIN, NEW_PIN, PASSPHRASE, ZONE_KEY, *made):
        assert secret not in output


def test_the_guides_need_no_folder_of_root() -> None:
    snippets = [block for page in pages() for block in blocks(page) if block.tasks or block.file]
    assert {block.page for block in snippets} == {*pages()}
    roots = re.compile(r"(?<![\w}])/(etc|srv|var|opt|root)/")
    assert [block.text for block in snippets if roots.search(block.text)] == []


def all_go_well(plays: Sequence[dict[str, Any]], hsm: Hsm) -> str:
    """Run the plays; the output."""
    done = run_plays(plays, hsm)
    tail = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == 0, tail
    begun = re.findall(r"^TASK \[(.*)\] \*+$", done.stdout, re.MULTILINE)
    assert begun == [task["name"] for play in plays for task in play["tasks"]]
    counts = dict(re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2]))
    assert int(counts["ok"]) == len(begun), tail
    assert {counts[name] for name in ("failed", "unreachable", "skipped", "rescued", "ignored")} == {"0"}, tail
    assert "[WARNING]" not in done.stderr or _expected(done.stderr), done.stderr
    return done.stdout + done.stderr


def _expected(text: str) -> bool:
    """Whether all warnings are ours, which examples may show."""
    ours = ("is kept as it is", "the gateway's status is not known")
    return all(any(words in line for words in ours) for line in text.splitlines() if "[WARNING]" in line)


def test_a_broken_example_is_found(hsm: Hsm) -> None:
    """The test tests: an example that names a token which is not there."""
    prepare(hsm, ["hsm_instance"])
    broken = play(["hsm_instance"], hsm)
    broken["tasks"] = broken["tasks"][:1]
    broken["tasks"][0]["keyfleet.hsm.hsm_instance"]["tokens"][0]["initialize"] = False
    done = run_plays([broken], hsm)
    assert done.returncode != 0
    assert "no token answers to label 'payments'" in done.stdout
