# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of docs/git.md are run as they stand, but for their folder, against two SoftHSM2 that another program has filled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hsm_fixture import PIN, SO_PIN, Hsm

PAGE = (Path(__file__).parents[3] / "docs" / "git.md").read_text()
FOLDER = "/tmp/hsm-guide"  # noqa: S108 - the one that the page was written in; the test replaces it
FILES = {name: text for text, name in re.findall(r"^```(?:ini|sh|yaml)\n(# (\S+)\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)}
SECRETS = {"dek-1": b"1" * 32, "dek-2": b"2" * 32, "dek-4": b"4" * 32}
TEMPLATE = "{{ tenant }}"


@dataclass
class Site:
    """The two HSMs, and the repository."""

    scratch: Path
    primary: Hsm
    standby: Hsm

    @property
    def repository(self) -> Path:
        return self.scratch / "hsm"

    def on(self, side: str) -> Hsm:
        return {"primary": self.primary, "standby": self.standby}[side]

    def command(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_HOME": str(self.scratch / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.run(command, cwd=self.repository, env=environment, capture_output=True, text=True, check=False, timeout=240)

    def play(self, name: str, *options: str) -> str:
        """The output of a playbook that must go well."""
        done = self.command("ansible-playbook", name, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert PIN not in done.stdout + done.stderr
        return done.stdout

    def report(self) -> str | None:
        """What the job of the page finds; None when it passes."""
        done = self.command("sh", "nightly.sh")
        failed = re.search(r'^fatal: .*?"msg": "(.*)"}$', done.stdout, re.MULTILINE)
        assert (done.returncode == 0) is (failed is None), done.stdout + done.stderr
        return failed[1].encode().decode("unicode_escape") if failed else None

    def declared(self) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load((self.repository / "payments.yml").read_text())
        return document

    def declare(self, keys: Sequence[dict[str, Any]]) -> None:
        (self.repository / "payments.yml").write_text(yaml.safe_dump({"keys": list(keys)}))


def sections(report: str | None) -> set[str]:
    """The names in the report that something stands under."""
    return set(re.findall(r"^(\w+):", report or "", re.MULTILINE))


@pytest.fixture
def files(tmp_path: Path) -> Site:
    """The repository with the files of the page, and no HSM."""
    found = Site(tmp_path, Hsm(tmp_path / "primary"), Hsm(tmp_path / "standby"))
    found.repository.mkdir()
    for name, text in FILES.items():
        (found.repository / name).write_text(text.replace(FOLDER, str(tmp_path)))
    return found


@pytest.fixture
def site(files: Site, tmp_path: Path) -> Site:
    """Two HSMs with keys that pkcs11-tool made: most of them the same on both, ``dek-5`` on the first only."""
    found = files
    (tmp_path / "pins").mkdir(mode=0o700)
    value = tmp_path / "value"
    for side in ("primary", "standby"):
        hsm, pin_file = found.on(side), tmp_path / "pins" / side
        (hsm.scratch / "tokens").mkdir(parents=True)
        (hsm.scratch / "softhsm2.conf").write_text(f"directories.tokendir = {hsm.scratch}/tokens\nlog.level = ERROR\n")
        hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
        pin_file.write_text(f"{PIN}\n")
        pin_file.chmod(0o600)
        keys = [(label, label.encode().hex(), content) for label, content in SECRETS.items()]
        keys += [(TEMPLATE, "7431", b"t" * 32), ("batch", "01", b"a" * 32), ("batch", "02", b"b" * 32)]
        for label, key_id, content in keys:
            value.write_bytes(content)
            made = ("--write-object", str(value), "--type", "secrkey", "--key-type", "AES:32", "--usage-decrypt", "--extractable")
            hsm.tool(*made, "--sensitive", "--label", label, "--id", key_id)
    value.unlink()
    stray(found, "dek-5")
    return found


def stray(site: Site, label: str) -> None:
    """A key that another program makes on the first HSM."""
    site.primary.tool("--keygen", "--key-type", "AES:32", "--label", label, "--id", label.encode().hex(), "--extractable", "--sensitive")


def taken_over(site: Site) -> str:
    """The first part of the page, up to the commit. What the first sync put out."""
    site.play("declare.yml")
    site.play("sync.yml", "--check", "--diff")
    assert not (site.repository / "exported.yml").exists()
    output = site.play("sync.yml")
    (site.repository / "payments.yml").write_bytes((site.repository / "exported.yml").read_bytes())
    return output


def test_the_page_names_no_file_that_it_does_not_have() -> None:
    assert list(FILES) == ["ansible.cfg", "hosts.yml", "declare.yml", "sync.yml", "keys.yml", "report.yml", "nightly.sh"]
    assert set(re.findall(r"ansible-playbook (\S+\.yml)", PAGE)) | set(re.findall(r"\bsh (\S+\.sh)", PAGE)) <= set(FILES)


def test_the_page_from_its_first_line_to_its_last(site: Site) -> None:
    """One way with one HSM: to take it over costs eight runs of Ansible."""
    from_unknown_keys_to_a_pipeline(site)
    another_program_was_at_work(site)
    (site.standby.scratch / "tokens").rename(site.standby.scratch / "tokens.away")
    assert sections(site.report()) == {"unread"}


def from_unknown_keys_to_a_pipeline(site: Site) -> None:
    assert '"added": 7' in taken_over(site)
    document = site.declared()
    assert [entry["label"] for entry in document["keys"]] == ["dek-1", "dek-2", "dek-4", "dek-5"]
    assert [entry["label"] for entry in document["others"]] == ["batch", "batch", TEMPLATE.replace("{{", r"\x7b\x7b")]
    assert len(document["fingerprints"]) == 6
    assert " changed=0 " in site.play("keys.yml")

    # One HSM lacks a key: the job fails for that and for nothing else, until it is copied.
    lacking = site.report()
    assert sections(lacking) == {"members"} and "label: dek-5" in (lacking or "")
    site.play("sync.yml", "-e", "hsm_repair=wrap")
    assert site.report() is None

    # A change by a commit.
    keys = [entry for entry in document["keys"] if entry["label"] != "dek-2"]
    site.declare([*keys, {"label": "dek-2", "type": "AES", "state": "deactivated"}, {"label": "dek-6", "type": "AES", "extractable": True}])
    assert sections(site.report()) == {"git"}
    shown = site.play("keys.yml", "--check", "--diff")
    assert "~ key dek-2: state active -> deactivated\n" in shown and "+ key dek-6: type AES" in shown
    assert " changed=1 " in site.play("keys.yml") and " changed=0 " in site.play("keys.yml")
    site.play("sync.yml", "-e", "hsm_repair=wrap")
    exported = (site.repository / "exported.yml").read_bytes()
    assert b"dek-6" in exported and site.report() is None
    site.play("sync.yml")
    assert (site.repository / "exported.yml").read_bytes() == exported


def another_program_was_at_work(site: Site) -> None:
    for side in ("primary", "standby"):
        site.on(side).tool("--set-id", "99", "--type", "secrkey", "--id", b"dek-4".hex())
    drifted = site.report()
    assert sections(drifted) == {"drift", "git"} and "field: id" in (drifted or "")
    for side in ("primary", "standby"):
        site.on(side).tool("--delete-object", "--type", "secrkey", "--label", "dek-1")
    stray(site, "stranger")
    found = site.report()
    assert sections(found) == {"drift", "git", "members", "missing", "unknown"}

    accept = ("-e", '{"hsm_refresh": ["id"], "hsm_prune": true, "hsm_repair": "wrap"}')
    assert "+-   id: '99'\n+    label: dek-4\n" in site.play("sync.yml", *accept, "--check", "--diff")
    assert site.report() == found
    site.play("sync.yml", *accept)
    # It may do all that another program let it do, and such a key is not made anew unasked.
    refused = site.command("ansible-playbook", "keys.yml", "--check", "--diff")
    assert refused.returncode != 0
    assert "'dek-1' would wrap and decrypt" in refused.stdout
    site.declare([entry for entry in site.declared()["keys"] if entry["label"] != "dek-1"])
    assert site.report() is None
    # What is recorded and not declared shows in the export alone.
    assert b"stranger" in (site.repository / "exported.yml").read_bytes()


@pytest.mark.parametrize(("label", "as_data", "as_variables"), [("{{ 6 * 7 }}", "{{ 6 * 7 }}", "42"), (TEMPLATE, TEMPLATE, None)])
def test_labels_are_data_where_the_file_is_read_as_the_page_says(files: Site, label: str, as_data: str, as_variables: str | None) -> None:
    files.declare([{"label": label, "type": "AES"}])
    play: dict[str, Any] = {"name": "Show", "hosts": "all", "gather_facts": False}
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "label={{ wanted[0].label }}"}}
    ways = {
        "data": {"vars": {**yaml.safe_load(FILES["keys.yml"])[0]["vars"], "wanted": "{{ declared['keys'] }}"}},
        "variables": {"vars_files": ["payments.yml"], "vars": {"wanted": "{{ keys }}"}},
    }
    for name, way in ways.items():
        (files.repository / f"{name}.yml").write_text(yaml.safe_dump([{**play, **way, "tasks": [show]}]))
    assert f"label={as_data}" in files.play("data.yml")
    done = files.command("ansible-playbook", "variables.yml")
    assert (f"label={as_variables}" in done.stdout) if as_variables else done.returncode != 0
