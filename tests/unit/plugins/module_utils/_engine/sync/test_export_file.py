# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The export's file: a diff of what differs, and no file overwritten that is something else."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.core import to_nice_yaml
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync import export_file
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.sync.export_file import plan_export
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError, Refused
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import CHANGE, CREATE, KEEP
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.sync_request import export_problems
from hypothesis import given
from hypothesis import strategies as st

DOCUMENT: dict[str, Any] = {
    "format": "keyfleet.hsm.export/1",
    "group": {"name": "payments", "members": [{"instance": "primary", "token_label": "a"}]},
    "keys": [
        {"label": "a: b", "type": "AES", "size": 256, "operations": ["encrypt", "decrypt"]},
        {"label": "x", "generation": 1, "type": "AES", "state": "deactivated"},
        {"label": "x", "generation": 2, "type": "AES"},
    ],
    "others": [],
    "fingerprints": {"hsm::softhsm2::7::a: b": "0f"},
}
ENDINGS = ["yml", "yaml", "json"]
WHOLE = {
    "format": "keyfleet.hsm.export/1",
    "group: name": "payments",
    "group: members": "[instance: primary, token_label: a]",
    "keys: a: b": "operations: [encrypt, decrypt], size: 256, type: AES",
    "keys: x": "generation: 1, state: deactivated, type: AES | generation: 2, type: AES",
    "fingerprints: hsm::softhsm2::7::a: b": "0f",
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(DOCUMENT), **fields}


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / f"keys.{request.param}")


def export(path: str, document: dict[str, Any]) -> str:
    plan = plan_export(path, document)
    plan.write()
    return plan.step.action


def content(path: str) -> Any:
    text = Path(path).read_text()
    return json.loads(text) if path.endswith("json") else yaml.safe_load(text)


def refusal(path: str, document: dict[str, Any] | None = None) -> KeyfleetError:
    with pytest.raises(KeyfleetError) as caught:
        plan_export(path, DOCUMENT if document is None else document)
    assert caught.value.message.startswith("export: ")
    assert caught.value.message.endswith(" Nothing was changed.")
    return caught.value


@pytest.mark.parametrize("path", [None, "/srv/hsm/keys.yml", "/k.yaml", "/srv/with blank/k.json"])
def test_a_path_that_will_do(path: str | None) -> None:
    assert export_problems(path) == []


@pytest.mark.parametrize(
    ("path", "problems"),
    [
        ("/k.toml", ["export: '/k.toml' does not say whether YAML or JSON is wanted: let it end in .yml, .yaml, .json"]),
        ("/k.yml/", ["export: '/k.yml/' does not say whether YAML or JSON is wanted: let it end in .yml, .yaml, .json"]),
    ],
)
def test_what_is_wrong_with_a_path(path: str, problems: list[str]) -> None:
    assert export_problems(path) == problems


def test_a_file_is_made_and_then_kept(path: str) -> None:
    plan = plan_export(path, DOCUMENT)
    assert (plan.step.action, plan.step.subject, plan.step.before) == (CREATE, f"export {path}", None)
    assert plan.step.after == WHOLE
    assert not os.path.exists(path)
    plan.write()
    assert content(path) == DOCUMENT
    assert Path(path).read_bytes() == plan.content
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    was = os.stat(path)
    again = plan_export(path, DOCUMENT)
    assert (again.step.action, again.step.before, again.step.after) == (KEEP, {}, {})
    again.write()
    assert os.stat(path).st_ino == was.st_ino


def test_json_is_indented_ascii_in_its_own_order(tmp_path: Path) -> None:
    path = str(tmp_path / "k.json")
    export(path, {"format": "keyfleet.hsm.export/1", "b": ["\u00fc"], "a": None})
    assert Path(path).read_text() == '{\n  "format": "keyfleet.hsm.export/1",\n  "b": [\n    "\\u00fc"\n  ],\n  "a": null\n}\n'


def test_the_diff_has_what_differs_and_nothing_else(path: str) -> None:
    export(path, DOCUMENT)
    keys = [{**DOCUMENT["keys"][0], "size": 128}, *DOCUMENT["keys"][1:], {"label": "z", "type": "AES"}]
    wanted = changed(keys=keys, others=[{"uid": "hsm::softhsm2::7::z", "kind": "secret", "reason": "odd"}], fingerprints={})
    plan = plan_export(path, wanted)
    assert plan.step.action == CHANGE
    assert plan.step.before == {
        "keys: a: b": "operations: [encrypt, decrypt], size: 256, type: AES",
        "fingerprints: hsm::softhsm2::7::a: b": "0f",
    }
    assert plan.step.after == {
        "keys: a: b": "operations: [encrypt, decrypt], size: 128, type: AES",
        "keys: z": "type: AES",
        "others: hsm::softhsm2::7::z": "kind: secret, reason: odd",
    }
    plan.write()
    assert content(path) == wanted


def test_a_rotation_shows_both_generations(path: str) -> None:
    export(path, changed(keys=[{"label": "x", "type": "AES"}]))
    plan = plan_export(path, changed(keys=DOCUMENT["keys"][1:]))
    assert plan.step.before == {"keys: x": "type: AES"}
    assert plan.step.after == {"keys: x": "generation: 1, state: deactivated, type: AES | generation: 2, type: AES"}


def test_a_large_diff_is_cut_off_and_counted(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_file, "_SHOWN", 3)
    export(path, changed(keys=[{"label": f"k{number}", "type": "AES"} for number in range(5)]))
    plan = plan_export(path, changed(keys=[{"label": f"k{number}", "type": "DES3"} for number in range(9)]))
    assert plan.step.before == {"keys: k0": "type: AES", "keys: k1": "type: AES", "keys: k2": "type: AES", "...": "and 2 more"}
    assert plan.step.after == {"keys: k0": "type: DES3", "keys: k1": "type: DES3", "keys: k2": "type: DES3", "...": "and 6 more"}


def test_an_edited_file_is_shown_and_put_right(path: str) -> None:
    export(path, DOCUMENT)
    file = Path(path)
    file.write_text(file.read_text().replace("  ", "\t", 1) if path.endswith("json") else file.read_text() + "\n# a remark\n")
    plan = plan_export(path, DOCUMENT)
    assert (plan.step.action, plan.step.before, plan.step.after) == (CHANGE, {"layout": "edited"}, {"layout": "as exported"})
    plan.write()
    assert content(path) == DOCUMENT


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("yml", ""),
        ("yml", " \n"),
        ("json", "\n"),
        ("yml", "# a licence\n---\nformat: 'keyfleet.hsm.export/1'\nkeys:\n- label: x\n  type: AES\n: [\n"),
        ("yml", '{\n"format": "keyfleet.hsm.export/2"}'),
        ("yml", "format: keyfleet.hsm.export/1\n\udcff\udcfe\n"),
        ("yml", "    - {\nformat: keyfleet.hsm.export/1\n"),
        ("json", '{"format":"keyfleet.hsm.export/0","keys":[{"label":1.5}]}'),
        ("json", ' {\r\n\t"format" : "keyfleet.hsm.export/1", <<<<<<< '),
        ("json", '{"format": "keyfleet.hsm.export/1", "keys": ' + "[" * 100_000),
    ],
)
def test_an_export_in_any_condition_may_go(tmp_path: Path, ending: str, text: str) -> None:
    file = tmp_path / f"k.{ending}"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert export(str(file), DOCUMENT) == CHANGE
    assert content(str(file)) == DOCUMENT


MANY = {f"hsm::softhsm2::7::{'k' * 200}-{number}": "0f" for number in range(20)}
# As the releases before wrote it, in their own layout.
EARLIER = """---
# yamllint disable rule:line-length
format: keyfleet.hsm.export/1
group:
  name: payments
  members:
    - instance: primary
      token_label: a
keys:
  - label: "a: b"
    type: AES
    size: 256
    operations: [encrypt, decrypt]
  - label: x
    generation: 1
    type: AES
    state: deactivated
  - label: x
    generation: 2
    type: AES
others: []
fingerprints:
  "hsm::softhsm2::7::a: b": "0f"
"""


def test_a_file_of_an_earlier_release_is_written_anew_once(tmp_path: Path) -> None:
    path = tmp_path / "k.yml"
    path.write_text(EARLIER)
    plan = plan_export(str(path), DOCUMENT)
    assert (plan.step.action, plan.step.before, plan.step.after) == (CHANGE, {"layout": "edited"}, {"layout": "as exported"})
    plan.write()
    assert plan_export(str(path), DOCUMENT).step.action == KEEP


def test_what_copy_has_written_from_the_document_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "k.yml"
    path.write_text(to_nice_yaml(json.loads(json.dumps(DOCUMENT))))
    assert plan_export(str(path), DOCUMENT).step.action == KEEP


@pytest.mark.parametrize("label", ["a", "line\n\nbreak", "# x", "<<<<<<< x", "format: y", "k" * 3000])
def test_an_export_is_known_by_its_mark_behind_the_fingerprints(tmp_path: Path, label: str) -> None:
    path = tmp_path / "k.yml"
    assert export(str(path), changed(fingerprints={**MANY, label: "0f"})) == CREATE
    text = path.read_text()
    assert text.index("format: keyfleet") > 1024
    path.write_text(text.replace("fingerprints:\n", "fingerprints:\n<<<<<<< HEAD\n    a: b\n=======\n>>>>>>> main\n", 1))
    assert export(str(path), DOCUMENT) == CHANGE
    assert content(str(path)) == DOCUMENT


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("yml", "---\nhsm_instances: []\n"),
        ("yml", f"fingerprints: {{}}\nmore:\n    a: {'b' * 1024}\nformat: keyfleet.hsm.export/1\n"),
        ("yml", f"fingerprints:\n    a: {'b' * 1024}\n    format: keyfleet.hsm.export/1\n"),
        ("yml", "exported:\n  format: keyfleet.hsm.export/1\n"),
        ("yml", "# format: keyfleet.hsm.export/1\nkeys: []\n"),
        ("yml", "my_format: keyfleet.hsm.export/1\n"),
        ("yml", "format: keyfleet.hsm-export/1\n"),
        ("yml", "x" * 1024 + "\nformat: keyfleet.hsm.export/1\n"),
        ("yml", "\n" * 2000 + "text"),
        ("json", "[]"),
        ("json", '{"exported": {"format": "keyfleet.hsm.export/1"}}'),
        ("json", '"format": "keyfleet.hsm.export/1"'),
    ],
)
def test_another_file_is_not_overwritten(tmp_path: Path, ending: str, text: str) -> None:
    file = tmp_path / f"k.{ending}"
    file.write_text(text)
    error = refusal(str(file))
    assert (type(error), error.code) == (Refused, "export_unwritable")
    assert "holds something other than an export" in error.message
    assert file.read_text() == text


@given(st.binary(max_size=200), st.sampled_from(ENDINGS))
def test_no_content_makes_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, raw: bytes, ending: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any.{ending}"
    mark = b'{"format": "keyfleet.hsm.export/1",\n' if ending == "json" else b"format: keyfleet.hsm.export/1\n"
    file.write_bytes(mark + raw)
    assert plan_export(str(file), DOCUMENT).step.action == CHANGE
    file.write_bytes(b"x" + raw)
    assert refusal(str(file)).code == "export_unwritable"


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "none" / "k.yml"))
    assert (type(error), error.code) == (Refused, "export_unwritable")
    assert "does not exist" in error.message
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_not_followed(path: str, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "target"
    if there:
        target.write_bytes(plan_export(path, DOCUMENT).content)
    os.symlink(target, path)
    error = refusal(path, changed(keys=[]))
    assert (type(error), error.code) == (Refused, "export_unwritable")
    assert "symbolic link" in error.message
    assert target.exists() is there


def test_a_folder_above_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert export(str(tmp_path / "link" / "k.yml"), DOCUMENT) == CREATE
    assert content(str(tmp_path / "real" / "k.yml")) == DOCUMENT


def test_what_is_no_file_is_refused(path: str) -> None:
    os.mkfifo(path)
    error = refusal(path)
    assert (error.code, "not a regular file" in error.message) == ("export_unreadable", True)
    os.unlink(path)
    os.mkdir(path)
    error = refusal(path)
    assert (error.code, "is a folder" in error.message) == ("export_unreadable", True)


def test_a_file_that_cannot_be_read_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied")  # the tests may run as root, whom nothing is denied

    monkeypatch.setattr(export_file, "_open_no_link", denied)
    error = refusal(path)
    assert (error.code, "Permission denied" in error.message, "become" in error.message) == ("export_unreadable", True, True)


def test_a_file_that_is_too_large_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    export(path, DOCUMENT)
    monkeypatch.setattr(export_file, "_MAX_BYTES", os.path.getsize(path) - 1)
    assert refusal(path).code == "export_unreadable"
    monkeypatch.setattr(export_file, "_MAX_BYTES", os.path.getsize(path))
    assert plan_export(path, DOCUMENT).step.action == KEEP


def test_the_mode_of_a_file_stays(path: str) -> None:
    export(path, DOCUMENT)
    os.chmod(path, 0o4660)
    assert plan_export(path, DOCUMENT).mode == 0o660
    assert export(path, changed(keys=[])) == CHANGE
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_a_file_that_cannot_be_written_is_told(path: str) -> None:
    plan = plan_export(path, DOCUMENT)
    folder = Path(path).parent
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    with pytest.raises(KeyfleetError) as caught:
        plan.write()
    assert caught.value.code == "export_unwritable"
    assert caught.value.message.startswith(f"export: {path} cannot be written: Not a directory.")


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = str(tmp_path / ("a" * 251 + ".yml"))
    assert export(path, DOCUMENT) == CREATE
    assert export(path, changed(keys=[])) == CHANGE
    assert [file.name for file in tmp_path.iterdir()] == [os.path.basename(path)]


def test_what_a_killed_run_left_goes_when_it_is_old(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_source: str, _target: str) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        patched.setattr(os, "unlink", lambda _path: None)
        with pytest.raises(SystemExit):
            export(path, DOCUMENT)
    (left,) = (file for file in Path(path).parent.iterdir() if file.name.startswith(".keyfleet-"))
    export(path, DOCUMENT)
    assert left.exists()
    os.utime(left, (0, 0))
    export(path, changed(keys=[]))
    assert not left.exists()


@pytest.mark.parametrize("denied", ["access", "statvfs"])
def test_a_folder_that_cannot_be_written_is_told_before_anything(path: str, monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
    export(path, DOCUMENT)
    if denied == "access":
        monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    else:
        found = list(os.statvfs(os.path.dirname(path)))
        found[8] |= os.ST_RDONLY
        monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(found))
    assert plan_export(path, DOCUMENT).step.action == KEEP
    error = refusal(path, changed(keys=[]))
    assert (type(error), error.code) == (Refused, "export_unwritable")
