# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role kms through ansible-playbook: four steps, its refusals, and no PIN in what -vvv --diff shows."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.toml_text import parse
from hsm_fixture import Hsm

SETTINGS = {"http": {"port": 9998, "api_token_id": "canary-token"}, "tls": {"tls_p12_password": "canary-p12"}}


def instance(hsm: Hsm, name: str = "primary", **options: Any) -> dict[str, Any]:
    token = hsm.token(name, pin="canary-pin", so_pin="canary-so")
    base = {"name": name, "model": "softhsm2", "environment": hsm.environment, "admins": ["ops"]}
    return {**base, "tokens": [token], **options}


def variables(hsm: Hsm, **more: Any) -> dict[str, Any]:
    return {
        "ansible_python_interpreter": sys.executable,
        "hsm_registry": hsm.registry,
        "hsm_instances": [instance(hsm), instance(hsm, "standby")],
        "kms_config_path": str(hsm.scratch / "cosmian" / "kms.toml"),
        "kms_settings": SETTINGS,
        # Package and service take a host of their own: extensions/molecule/kms.
        "kms_manage_package": False,
        "kms_manage_service": False,
        **more,
    }


def play(hsm: Hsm, given: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A play with the role alone, as loud as people run it. Variables come from a file of their own."""
    return play_each(hsm, {"localhost": given}, *arguments)


def play_each(hsm: Hsm, given: dict[str, dict[str, Any]], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in one play for several hosts, all of them this machine, each with variables of its own."""
    (hsm.scratch / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "roles": ["keyfleet.hsm.kms"]}]))
    (hsm.scratch / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {host: {"ansible_connection": "local"} for host in given}}}))
    folder = hsm.scratch / "host_vars"
    folder.mkdir(exist_ok=True)
    for host, values in given.items():
        (folder / f"{host}.yml").write_text(yaml.safe_dump(values))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "-vvv", "--diff"]
    return subprocess.run(
        [*command, "play.yml", *arguments],
        cwd=hsm.scratch,
        env={**os.environ, "ANSIBLE_HOME": str(hsm.scratch / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    lines = re.findall(r"^(\S+) +: (ok=.*)$", done.stdout.rpartition("PLAY RECAP")[2], re.MULTILINE)
    return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in lines}


def told(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the failure of each host says, with blanks and quotes as one blank."""
    parts = re.split(r"^fatal: \[(\S+)\]", done.stdout.partition("PLAY RECAP")[0], flags=re.MULTILINE)
    return {host: " ".join(re.sub(r"[\"\s]+", " ", text).split()) for host, text in zip(parts[1::2], parts[2::2], strict=True)}


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    return recap(done)["localhost"]["changed"]


def diff_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if re.match(r"[+-][^+-]", line)]


def test_four_steps(hsm: Hsm) -> None:
    given = variables(hsm)
    bare = play(hsm, given, "--check")
    assert changed(bare) == 1
    assert "In check mode its slot stands as a placeholder" in bare.stdout + bare.stderr
    for name in ("primary", "standby"):
        hsm.register(name, tokens=[hsm.token(name, pin="canary-pin", so_pin="canary-so")])
    predicted, applied, again, kept = [play(hsm, given, *mode) for mode in (["--check"], [], ["--check"], [])]
    assert [changed(done) for done in (predicted, applied, again, kept)] == [1, 1, 0, 0]
    assert diff_of(predicted) == diff_of(applied) != []
    assert diff_of(again) == diff_of(kept) == []
    assert '+api_token_id = "(secret)"' in diff_of(applied)
    assert "+port = 9998" in diff_of(applied)
    file = Path(given["kms_config_path"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    found = parse(file.read_text())
    assert [entry["hsm_password"] for entry in found["hsm_instances"]] == [["canary-pin"], ["canary-pin"]]
    assert found["http"] == SETTINGS["http"]
    for done in (bare, predicted, applied, again, kept):
        assert "canary" not in done.stdout + done.stderr
        # No loop over what holds PINs.
        assert "(item=" not in done.stdout


def test_the_role_needs_its_instances(hsm: Hsm) -> None:
    given = variables(hsm)
    del given["hsm_instances"]
    done = play(hsm, given, "--check")
    assert done.returncode != 0
    assert "missing required arguments: hsm_instances" in done.stdout


WRONG = {
    "give exactly one of them, or none and kms_manage_package": {"kms_manage_package": True},
    "kms_package_name: give exactly one": {"kms_package_file": "/a.deb", "kms_package_name": "a"},
    "kms_package_checksum": {"kms_package_url": "https://a.example/a.deb"},
    # By the roles package and service, whose own turn comes after the configuration.
    "is not an absolute path": {"kms_manage_package": True, "kms_package_file": "files/kms.deb"},
    "there is no file /nothing.deb": {"kms_manage_package": True, "kms_package_file": "/nothing.deb"},
    "package_checksum: 'md5:1'": {"kms_manage_package": True, "kms_package_url": "https://a.example/a", "kms_package_checksum": "md5:1"},
    "kms_service: 'cosmian_kms.service'": {"kms_manage_service": True, "kms_service": "cosmian_kms.service"},
    "kms_writable_paths: var": {"kms_manage_service": True, "kms_writable_paths": ["var"]},
    "kms_devices: cs2": {"kms_manage_service": True, "kms_devices": ["cs2"]},
    "kms_environment: a-b": {"kms_manage_service": True, "kms_environment": {"a-b": "c"}},
    "nothing would be compared": {"kms_status_require": "equal"},
    # As they come from an INI inventory or from -e.
    "kms_package_file, kms_package_url": {"kms_manage_package": "true"},
}


# One of them in check mode, too: there is one way for both.
@pytest.mark.parametrize(("mode", "wrong"), [([], list(WRONG)), (["--check"], list(WRONG)[:1])])
def test_wrong_variables_are_refused_before_anything_is_written(hsm: Hsm, mode: list[str], wrong: list[str]) -> None:
    done = play_each(hsm, {f"wrong{number}": variables(hsm, **WRONG[words]) for number, words in enumerate(wrong)}, *mode)
    assert done.returncode != 0
    found = told(done)
    assert [words for number, words in enumerate(wrong) if words not in found[f"wrong{number}"]] == []
    assert not Path(variables(hsm)["kms_config_path"]).exists()


def test_the_configuration_is_looked_at_whatever_tags_are_left_out(hsm: Hsm) -> None:
    hsm.register("primary", tokens=[hsm.token("primary", pin="canary-pin", so_pin="canary-so")])
    given = variables(hsm, hsm_instances=[instance(hsm)], kms_manage_package="false", kms_manage_service="false")
    for arguments in (["--skip-tags", "kms_package"], ["--skip-tags", "kms_preflight"], ["--check", "--tags", "kms_config"]):
        Path(given["kms_config_path"]).unlink(missing_ok=True)
        assert changed(play(hsm, given, *arguments)) == 1
    assert changed(play(hsm, given, "--tags", "kms_config")) == 1
    assert changed(play(hsm, given)) == 0


def test_copies_with_pins_go_and_nothing_else(hsm: Hsm) -> None:
    hsm.register("primary", tokens=[hsm.token("primary", pin="canary-pin", so_pin="canary-so")])
    given = variables(hsm, hsm_instances=[instance(hsm)])
    folder = Path(given["kms_config_path"]).parent
    folder.mkdir()
    gone = ["kms.toml.bak", "kms.toml.dpkg-old", "20261122T101112_kms.toml", ".keyfleet-0123456789abcdef-killed"]
    stay = ["kms.toml.bak-keep", "2026_kms.toml.mine", "other.toml"]
    for name in gone + stay:
        (folder / name).write_text("x")
        os.utime(folder / name, (1, 1))
    assert changed(play(hsm, given)) > 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(["kms.toml", *stay])


def broken(hsm: Hsm) -> dict[str, dict[str, Any]]:
    """What people get wrong, each with canaries in it."""
    token = instance(hsm)["tokens"][0]
    return {
        "settings": variables(hsm, kms_settings={"htpp": {"a": "canary"}, **SETTINGS}),
        "settings is text": variables(hsm, kms_settings="canary"),
        "instances is text": variables(hsm, hsm_instances="canary"),
        "instances is a mapping": variables(hsm, hsm_instances=instance(hsm)),
        "an instance is text": variables(hsm, hsm_instances=["canary-pin"]),
        "tokens is a mapping": variables(hsm, hsm_instances=[instance(hsm, tokens=token)]),
        "a token is text": variables(hsm, hsm_instances=[instance(hsm, tokens=["canary-pin"])]),
        "a misspelt option": variables(hsm, hsm_instances=[instance(hsm, tokens=[{**token, "pinn": "canary"}])]),
        "a PIN in a boolean": variables(hsm, hsm_instances=[instance(hsm, tokens=[{**token, "login": "canary"}])]),
        "a PIN in a choice": variables(hsm, hsm_instances=[instance(hsm, tokens=[{**token, "user_type": "canary"}])]),
        "a PIN at the instance": variables(hsm, hsm_instances=[instance(hsm, pin="canary")]),
        "no library": variables(hsm, hsm_instances=[instance(hsm, model="nothing")]),
        "the registry is no registry": variables(hsm, hsm_registry="/dev/null/registry.db"),
    }


def test_no_secret_is_shown_by_a_failure(hsm: Hsm) -> None:
    given = {name.replace(" ", "-"): values for name, values in broken(hsm).items()}
    done = play_each(hsm, given)
    assert done.returncode != 0
    assert {host: counts["failed"] for host, counts in recap(done).items()} == dict.fromkeys(given, 1)
    for line in (done.stdout + done.stderr).splitlines():
        assert "canary" not in line
