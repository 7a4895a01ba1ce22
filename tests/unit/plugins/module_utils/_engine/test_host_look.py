# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What host_look says of a host, with real files and users, and the answers of programs as plain text."""

from __future__ import annotations

import getpass
import grp
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine import host_look
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.host_request import HostRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context

NOTHING: dict[str, Any] = dict.fromkeys(("archive", "unit", "port"))
NOTHING |= {"host": "127.0.0.1", "files": [], "packages": [], "find": [], "users": []}
# What the programs of a host with the KMS server say, by their last argument.
SAID = {
    "softhsm2": (0, "softhsm2\tinstalled\tinstall\t2.6.1-2.1\tamd64\ngone\tconfig-files\tdeinstall\t1\tamd64\n"),
    "nothing": (1, ""),
    "/kept.deb": (0, "kms\t5.26.0\tamd64"),
    "/other.deb": (0, "kms\t5.27.0\tamd64"),
    "/broken.deb": (2, ""),
    "kms": (0, "kms\tinstalled\thold\t5.26.0\tamd64\n"),
    "kms.service": (0, "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"),
}


def look(monkeypatch: pytest.MonkeyPatch | None = None, **asked: Any) -> dict[str, Any]:
    if monkeypatch:
        monkeypatch.setattr(os, "access", lambda _path, _mode: True)
    context = Context(check_mode=True, run="", warn=print, command=lambda command: (*SAID[command[-1]], ""))
    return host_look.look(HostRequest.parse({**NOTHING, **asked}), context).values


def test_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "folder").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("file")
    own = f"{getpass.getuser()}:{grp.getgrgid(os.getegid()).gr_name}"
    said = look(files=[str(tmp_path / name) for name in ("file", "folder", "link", "none", "file/below")])["files"]
    assert list(said.values()) == [
        f"file {own} 0640 {hashlib.sha256(b'text').hexdigest()}",
        f"directory {own} 0755",
        f"other {own} 0777",
        "absent",
        "absent",
    ]


def test_packages_and_services(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(monkeypatch, packages=["softhsm2"])["packages"] == {"softhsm2": "install 2.6.1-2.1 amd64"}
    assert look(monkeypatch, packages=["nothing"])["packages"] == {}
    archives = {path: look(monkeypatch, archive=path)["archive"] for path in ("/kept.deb", "/other.deb", "/broken.deb")}
    assert archives == {"/kept.deb": "hold", "/other.deb": None, "/broken.deb": None}
    assert look(monkeypatch, unit="kms")["unit"] == {"load": "loaded", "active": "active", "enabled": "enabled"}


def test_a_host_without_these_programs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    said = look(packages=["softhsm2"], archive="/kept.deb", unit="kms")
    assert (said["packages"], said["archive"], said["unit"]) == (None, None, None)


def test_files_that_should_not_be_there(tmp_path: Path) -> None:
    for name in ("kms.toml", "kms.toml.bak", ".keyfleet-new", ".keyfleet-old"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".keyfleet-old", (1, 1))
    (tmp_path / "kms.toml.bak.d").mkdir()
    folder = {"folder": str(tmp_path), "age": 0}
    said = look(find=[{**folder, "pattern": "kms[.]toml[.]bak.*"}, {**folder, "pattern": "[.]keyfleet-.*", "age": 60}])
    assert said["found"] == [[str(tmp_path / "kms.toml.bak")], [str(tmp_path / ".keyfleet-old")]]
    assert look(find=[{**folder, "folder": "/nowhere", "pattern": "x"}])["found"] == [[]]
    with pytest.raises(InputError, match="pattern: invalid regular expression"):
        look(find=[{**folder, "pattern": "("}])


def test_ports_and_users() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert look(port=port)["listens"] is True
    assert [look(port=number)["listens"] for number in (port, 70000)] == [False, False]
    said = look(users=["root", "nobody-here"])["users"]
    assert "root" in said["root"] and said["nobody-here"] is None
