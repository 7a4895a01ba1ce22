# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The declaration of a host: what is refused, what is told, and that nothing which site reads or hands over is forgotten."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.keyfleet.hsm.plugins.filter.site_findings import fields, role_variables, site_findings
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.site.variables import SITE

CHECKOUT = Path(__file__).resolve().parents[4]
SOUND: dict[str, Any] = {
    "hsm_instances": [
        {"name": "primary", "model": "softhsm2", "tokens": [{"label": "payments", "pin_file": "/p"}]},
        {"name": "standby", "model": "softhsm2", "tokens": [{"serial": "1f", "login": False}]},
        {"name": "old", "state": "absent"},
    ],
    "hsm_groups": [
        {"name": "cards", "connections": [{"instance": "primary"}, {"instance": "standby"}]},
        {"name": "gone", "state": "absent"},
    ],
    "hsm_keys": [{"group": "cards", "keys": [{"label": "pan-1", "type": "AES", "extractable": True}]}, {"instance": "primary", "keys": []}],
}


def problems(variables: dict[str, Any], *names: str) -> list[str]:
    found: list[str] = site_findings(variables, list(names))["problems"]
    return found


def changed(path: str, value: Any) -> dict[str, Any]:
    """The sound declaration with one place of it, given as ``hsm_groups.0.name``, set to something else."""
    whole = copy.deepcopy(SOUND)
    at: Any = whole
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        at = at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return whole


def test_a_sound_declaration() -> None:
    found = site_findings(SOUND, ["hsm_instances", "hsm_keys", "kms_settings", "gateway_flavor", "gateway_rack", "site_name", "kms_tried"])
    assert (found["problems"], found["notes"]) == ([], [])
    assert found["declared"] == {
        "instances": [
            {"name": "primary", "tokens": [{"label": "payments"}]},
            {"name": "standby", "tokens": [{"serial": "1f"}]},
            {"name": "old"},
        ],
        "groups": ["cards", "gone"],
    }


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("hsm_instances", [], "hsm_instances: missing, empty or not a list"),
        ("hsm_instances", "primary", "hsm_instances: missing, empty or not a list"),
        ("hsm_groups", {}, "hsm_groups: not a list"),
        ("hsm_keys", "x", "hsm_keys: not a list"),
        ("hsm_instances.0", "x", "hsm_instances[0]: not a mapping"),
        ("hsm_instances.0.modle", "x", "hsm_instances[0]: unknown field modle, did you mean model?"),
        ("hsm_instances.0.4711", "x", "hsm_instances[0]: unknown field ?. Fields are name, "),
        ("hsm_instances.0.tokens.0.pinfile", "x", "hsm_instances[0].tokens[0]: unknown field pinfile, did you mean pin_file?"),
        ("hsm_keys.0.keys.0.sise", 1, "hsm_keys[0].keys[0]: unknown field sise, did you mean size?"),
        ("hsm_keys.0.pin", "x", "hsm_keys[0]: unknown field pin"),
        ("hsm_instances.1.name", "primary", "hsm_instances[1].name: 'primary' is declared already"),
        ("hsm_instances.1.name", None, "hsm_instances[1].name: missing or not a name"),
        ("hsm_groups.0.name", "a b", "hsm_groups[0].name: missing or not a name"),
        ("hsm_instances.0.model", 1, "hsm_instances[0].model: missing or not a text"),
        ("hsm_instances.0.tokens", None, "hsm_instances[0].tokens: missing or not a list"),
        ("hsm_instances.0.tokens.0.pin_file", None, "hsm_instances[0].tokens[0].pin_file: missing"),
        ("hsm_groups.0.connections", [], "hsm_groups[0].connections: missing or not a list"),
        ("hsm_groups.0.connections.1.instance", "third", "hsm_groups[0].connections[1].instance: not in hsm_instances"),
        ("hsm_groups.0.connections.1.instance", "old", "hsm_groups[0].connections[1].instance: has state: absent in hsm_instances"),
        ("hsm_groups.0.connections.0.token_label", "other", "hsm_groups[0].connections[0].token_label: not one of the declared tokens"),
        ("hsm_keys.0.group", "gone", "hsm_keys[0].group: has state: absent in hsm_groups"),
        ("hsm_keys.0.group", "other", "hsm_keys[0].group: not in hsm_groups"),
        ("hsm_keys.1.instance", "other", "hsm_keys[1].instance: not in hsm_instances"),
        ("hsm_keys.0.instance", "primary", "hsm_keys[0]: needs instance or group, and not both"),
        ("hsm_keys.0.keys", None, "hsm_keys[0].keys: missing or not a list"),
        ("hsm_group_require", "all", "hsm_group_require: unknown value, use covered or reported"),
        ("site_undeclared", "delete", "site_undeclared: unknown value, use report or refuse or remove"),
        ("hsm_sync_repair", ["wrap", "copy"], "hsm_sync_repair: unknown value, use wrap or layout"),
        ("hsm_sync_refresh", "id", "hsm_sync_refresh: not a list"),
        ("hsm_sync_export", "export", "hsm_sync_export: not an absolute path"),
    ],
)
def test_what_is_refused(path: str, value: Any, problem: str) -> None:
    found = problems(changed(path, value))
    assert any(one.startswith(problem) for one in found), found


def test_tokens_that_would_share_an_exported_file() -> None:
    several = changed("hsm_instances.1.tokens", [{"serial": "1f", "login": False}, {"serial": "2f", "login": False}])
    (problem,) = problems({**several, "hsm_sync_export": "/srv/export"})
    assert problem.startswith("hsm_sync_export: hsm_instances[1] has several tokens")


def test_no_value_is_shown() -> None:
    """It may be a PIN, wherever it stands."""
    canary = "73915520"
    for path in (
        "hsm_instances.0.name",
        "hsm_instances.0.model",
        "hsm_instances.0.4711",
        "hsm_groups.0.name",
        "hsm_keys.0.group",
        "hsm_groups",
    ):
        assert canary not in str(problems(changed(path, [canary])))
    assert canary not in str(problems(changed(f"hsm_instances.0.tokens.0.{canary}", "x")))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("hsm_key", "hsm_key: unknown variable, did you mean hsm_keys?"),
        ("hsm_group", "hsm_group: unknown variable, did you mean hsm_groups?"),
        ("kms_setting", "kms_setting: unknown variable, did you mean kms_settings?"),
        ("hsm_rack", "hsm_rack: unknown variable."),
        ("site_undeclard", "site_undeclard: unknown variable, did you mean site_undeclared?"),
        ("load_balancer_gateway", "load_balancer_gateway: unknown variable, did you mean load_balancer_gateways?"),
    ],
)
def test_a_name_that_nothing_reads(name: str, problem: str) -> None:
    (found,) = problems(SOUND, name)
    assert found == f"{problem} If it is one of your own, list it in site_own_variables."
    assert problems({**SOUND, "site_own_variables": [f"{name[:-2]}*"]}, name) == []


def test_keys_of_a_group_that_cannot_be_copied_are_told() -> None:
    (note,) = site_findings(changed("hsm_keys.0.keys.0.extractable", None), [])["notes"]
    assert note.startswith("hsm_keys[0]: group 'cards' has 2 members, and these keys cannot be copied from one to another: 'pan-1'.")
    alone = changed("hsm_groups.0.connections", [{"instance": "primary"}])
    del alone["hsm_keys"][0]["keys"][0]["extractable"]
    assert site_findings(alone, [])["notes"] == []


def tasks(path: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load((CHECKOUT / path).read_text())


@pytest.mark.parametrize(
    ("place", "file", "module", "apart"),
    [
        # What an entry that goes says is read where it goes.
        ("hsm_instances", "instance.yml", "hsm_instance", {"state"}),
        ("hsm_groups", "hsms.yml", "hsm_group", {"force", "state"}),
        ("hsm_keys", "hsms.yml", "hsm_key", set()),
        # A member of a group is an instance, and the two files are the content of options.
        ("hsm_certificates", "certificates.yml", "hsm_certificate", {"group", "request_file", "issued_file"}),
    ],
)
def test_every_field_is_handed_over(place: str, file: str, module: str, apart: set[str]) -> None:
    there = [one for task in tasks(f"playbooks/tasks/{file}") for one in (task, *task.get("block", ()))]
    handed = [task[f"keyfleet.hsm.{module}"] for task in there if f"keyfleet.hsm.{module}" in task]
    assert set(fields()[place]) - apart <= set(handed[-1])


def test_every_variable_of_the_playbook_is_known_and_in_the_guide() -> None:
    texts = [path.read_text() for path in (CHECKOUT / "playbooks/site.yml", *(CHECKOUT / "playbooks/tasks").glob("*.yml"))]
    read = {name for text in texts for name in re.findall(r"(?<![\w.])(?:hsm|kms)_\w*[a-z]\b", text)}
    known, noted = role_variables()
    modules = {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")}
    assert read - modules <= {*SITE, *known}
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", (CHECKOUT / "docs/fleet.md").read_text(), re.MULTILINE)
    assert dict(table).items() >= SITE.items() and dict(table).keys() == SITE.keys()
    # A variable is an option or a note, and no module's name passes for one. hsm_registry is both: its path, and the module that saves it.
    assert modules & known == {"hsm_registry"} and {"kms_tried", "kms_look"} <= noted and not {"kms_package", "kms_config"} & noted
    roles = {name for path in (CHECKOUT / "roles").glob("*/meta/argument_specs.yml") for name in options_of(path)}
    assert roles == known


def options_of(path: Path) -> Iterator[str]:
    for spec in yaml.safe_load(path.read_text())["argument_specs"].values():
        yield from spec.get("options", {})


REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nMIIE\n-----END CERTIFICATE REQUEST-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n"
WEB: dict[str, Any] = {"instance": "primary", "key_label": "web-tls", "subject": {"CN": "web01"}}


def certificates(folder: Path, *entries: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """What is found in the sound declaration with these certificates."""
    declared = {**SOUND, "hsm_certificates": list(entries), "hsm_certificates_dir": str(folder), **variables}
    found: dict[str, Any] = site_findings(declared, [], "web1")
    return found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"instance": "other"}, ".instance: not in hsm_instances"),
        ({"instance": "old"}, ".instance: has state: absent in hsm_instances"),
        ({"group": "cards"}, ": needs instance or group, and not both"),
        ({"key_lable": "x"}, ": unknown field key_lable, did you mean key_label?"),
        ({"csr_path": "/x"}, ": unknown field csr_path. Fields are instance, group, "),
        ({"key_label": None}, ": missing required arguments: key_label"),
        ({"key_label": ""}, ".key_label: is empty: name the key by its label"),
        ({"subject": {"country": "DE"}}, ".subject.country: is no name that a subject can hold: did you mean countryName?"),
        ({"subject": ["CN=web01"]}, ": argument 'subject' is of type"),
        ({"subject_alt_names": ["web01"]}, ".subject_alt_names[0]: 'web01' has no kind that is known: write one of DNS:, "),
        ({"key_usage": ["sign"]}, ": value of key_usage must be one or more of"),
        ({"renew_before": "a month"}, ".renew_before: "),
        ({"subject": None, "request_file": "/x.csr"}, ".subject: is missing: request_file needs the name"),
        ({"request_file": "x.csr"}, ".request_file: not an absolute path"),
        ({"request_file": "/none/x.csr"}, ".request_file: its folder is not there on the controller"),
        ({"self_signed": {}, "issued_file": "/x.pem"}, ".issued_file: not beside self_signed"),
    ],
)
def test_a_certificate_that_is_refused(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    entry = {name: value for name, value in {**WEB, **change}.items() if value is not None}
    found = certificates(tmp_path, {**WEB, "key_label": "sound"}, entry)
    assert any(one.startswith(f"hsm_certificates[1]{problem}") for one in found["problems"]), found["problems"]


def test_all_that_is_wrong_with_certificates_is_said_at_once(tmp_path: Path) -> None:
    group = {"group": "cards", "key_label": "pan", "token_label": "x", "subject": {"CN": "x"}, "self_signed": {}}
    found = certificates(tmp_path / "none", WEB, WEB, group, {"group": "gone", "key_label": "x"})["problems"]
    assert [one.split(":")[0] for one in found] == [
        "hsm_certificates_dir",
        "hsm_certificates[0].request_file",
        "hsm_certificates[1].key_label",
        "hsm_certificates[1].request_file",
        "hsm_certificates[2].token_label",
        "hsm_certificates[2].self_signed",
        "hsm_certificates[3].group",
    ]
    assert certificates(tmp_path, hsm_certificates="web-tls")["problems"] == ["hsm_certificates: not a list."]
    same = [{**WEB, "issued_file": "/x.pem"}, {**WEB, "key_label": "other", "issued_file": "/etc/../x.pem"}]
    (problem,) = certificates(tmp_path, *same)["problems"]
    assert problem == "hsm_certificates[1].issued_file: hsm_certificates[0].issued_file is this file already. Give each once."


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("csr", "notes", "request_file: {} holds something other than a request, and is not overwritten."),
        ("csr", "-----BEGIN PRIVATE KEY-----\nMIIE", "request_file: {} contains a private key."),
        ("pem", "-----BEGIN CERTIFICATE-----\nMII\n-----BEGIN EC PRIVATE KEY-----\nMIIE", "issued_file: {} contains a private key."),
        ("csr", f"{REQUEST}-----BEGIN CERTIFICATE-----\nMIIE\n", "request_file: {} holds something other than a request"),
        ("pem", "", "issued_file: {} holds no certificate in PEM."),
        ("pem", CERTIFICATE.replace("MIIE", "{{ 1 + 1 }}"), "issued_file: {} holds no certificate in PEM."),
        ("pem", None, "issued_file: {} on the controller cannot be read: Is a directory."),
    ],
)
def test_files_that_cannot_be_used(name: str, content: str | None, problem: str, tmp_path: Path) -> None:
    """What they hold is not shown, and goes to no host."""
    path = tmp_path / f"web1.primary.web-tls.{name}"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    found = certificates(tmp_path, WEB)
    (said,) = found["problems"]
    assert said.startswith(f"hsm_certificates[0].{problem.format(path)}")
    assert found["certificates"] == [] and "MII" not in str(found)


def test_calls_for_certificates(tmp_path: Path) -> None:
    """One for an instance and each member of a group. Without a folder and a path, nothing is asked for."""
    (tmp_path / "web1.primary.web-tls.csr").write_text(f"Replaces the old one\n{REQUEST}")
    (tmp_path / "web1.cards.a%2Fb.pem").write_text(f"Subject: {{{{ 1 + 1 }}}}\n{CERTIFICATE}, Ltd.\r\n{CERTIFICATE}")
    own = {"instance": "standby", "key_label": "test", "subject": {"CN": "x"}, "self_signed": {}}
    gone = {"instance": "primary", "key_label": "gone", "state": "absent"}
    looked = {"instance": "primary", "key_label": "looked", "renew_before": "30d"}
    found = certificates(tmp_path, WEB, {"group": "cards", "key_label": "a/b", "subject": {"CN": "x"}}, own, gone, looked)
    assert found["problems"] == []
    seen = ("name", "csr_content", "content", "request_file")
    assert [tuple(call.get(name) for name in seen) for call in found["certificates"]] == [
        ("web-tls of primary", f"Replaces the old one\n{REQUEST}", None, str(tmp_path / "web1.primary.web-tls.csr")),
        ("a/b of primary", "", 2 * CERTIFICATE, str(tmp_path / "web1.cards.a%2Fb.csr")),
        ("a/b of standby", "", 2 * CERTIFICATE, str(tmp_path / "web1.cards.a%2Fb.csr")),
        ("test of standby", None, None, None),
        ("gone of primary", None, None, None),
        ("looked of primary", None, None, None),
    ]
    (call,) = certificates(tmp_path, looked, hsm_certificates_dir=None)["certificates"]
    assert call.keys() == {*looked, "names", "name", "of_group", "first"}
