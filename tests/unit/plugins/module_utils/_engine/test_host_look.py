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
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine import host_look
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import InputError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.host_request import HostRequest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.plan import Context

NOTHING: dict[str, Any] = dict.fromkeys(("archive", "health_url"))
NOTHING |= {"host": "127.0.0.1", "units": [], "ports": [], "files": [], "packages": [], "find": [], "users": []}
# What the programs of a host with the KMS server say, by their last argument.
SAID = {
    "softhsm2": (0, "softhsm2\tinstalled\tinstall\t2.6.1-2.1\tamd64\ngone\tconfig-files\tdeinstall\t1\tamd64\n"),
    "nothing": (1, ""),
    "/kept.deb": (0, "kms\t5.26.0\tamd64"),
    "/other.deb": (0, "kms\t5.27.0\tamd64"),
    "/broken.deb": (2, ""),
    "kms": (0, "kms\tinstalled\thold\t5.26.0\tamd64\n"),
    "kms.service": (0, "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nInactiveExitTimestamp=@1000\n"),
    "old.timer": (1, ""),
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
    kms = {"load": "loaded", "active": "active", "enabled": "enabled"}
    units = [{"name": "kms", "reads": []}, {"name": "old.timer", "reads": []}]
    assert look(monkeypatch, units=units)["units"] == {"kms": kms, "old.timer": None}


def test_files_that_a_process_has_not_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stale(*reads: str, name: str = "kms") -> Any:
        return look(monkeypatch, units=[{"name": name, "reads": list(reads)}])["units"][name]["stale"]

    for name, changed in (("before", 1000.9), ("after", 1001)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (changed, changed))
    before, after = (str(tmp_path / name) for name in ("before", "after"))
    assert [stale(before), stale(before, after), stale("/nowhere")] == [False, True, False]
    monkeypatch.setitem(SAID, "kms.service", (0, "LoadState=loaded\nInactiveExitTimestamp=\n"))
    assert stale(before) is None
    # It is young, and yet of the unit that systemd had in memory when it was started.
    monkeypatch.setitem(SAID, "kms.service", (0, "LoadState=loaded\nInactiveExitTimestamp=@1000\nNeedDaemonReload=yes\n"))
    assert stale(before) is True


def test_a_host_without_these_programs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    said = look(packages=["softhsm2"], archive="/kept.deb", units=[{"name": "kms", "reads": []}])
    assert (said["packages"], said["archive"], said["units"]) == (None, None, {"kms": None})


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
        assert look(ports=[port, 70000])["listening"] == [port]
    assert look(ports=[port, 70000])["listening"] == []
    said = look(users=["root", "nobody-here"])["users"]
    assert "root" in said["root"] and said["nobody-here"] is None


def test_health() -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.send_header("Location", "/204")
            self.end_headers()

        def log_message(self, *_said: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = [look(health_url=f"{url}/{code}")["health"] for code in (204, 500, 302)]
        server.shutdown()
    assert said == [204, 500, 302]
    assert look(health_url=url)["health"] is None
    with pytest.raises(InputError, match="health_url: begins with neither"):
        look(health_url="file:///etc/passwd")
