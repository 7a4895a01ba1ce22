# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another user of the host may have prepared: registry, PIN file and locks are opened as if it had been."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki import locks
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import TokenError
from hsm_fixture import Hsm

NOBODY = 65534


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def planted(path: Path) -> None:
    """A file that SQLite would take for its own."""
    path.with_name(path.name + "-wal").touch()
    os.chown(path.with_name(path.name + "-wal"), NOBODY, NOBODY)


PREPARED: dict[str, tuple[Callable[[Path], object], str]] = {
    "owner": (lambda path: os.chown(path, NOBODY, NOBODY), "belongs to user id 65534"),
    "mode": (lambda path: path.chmod(0o606), "has mode 0606, so others can write it"),
    "group": (lambda path: path.chmod(0o660), "has mode 0660, so others can write it"),
    "link": (linked, "is a symbolic link"),
    "folder": (lambda path: path.parent.chmod(0o777), "others can write it"),
    "folder's owner": (lambda path: os.chown(path.parent, NOBODY, NOBODY), "belongs to user id 65534"),
    "beside it": (planted, "-wal belongs to user id 65534"),
}


@pytest.mark.parametrize("name", list(PREPARED))
def test_a_registry_that_others_could_have_written_is_refused(primary: Hsm, name: str) -> None:
    prepare, text = PREPARED[name]
    prepare(Path(primary.registry))
    for module, options in (("hsm_status", {}), ("hsm_key", {"instance": "primary", "keys": [{"label": "a", "type": "AES"}]})):
        for check in (True, False):
            answer = primary.run(module, check=check, **options)
            assert answer["failure"]["code"] == "registry_unsafe", answer
            assert text in answer["msg"]


def test_a_folder_where_nobody_can_replace_the_file_will_do(primary: Hsm) -> None:
    Path(primary.registry).parent.chmod(0o1777)
    assert primary.run("hsm_status")["instances"][0]["name"] == "primary"


def test_no_registry_is_made_through_a_link(hsm: Hsm) -> None:
    target = hsm.scratch / "elsewhere"
    Path(hsm.registry).symlink_to(target)
    answer = hsm.run("hsm_instance", **hsm.instance())
    assert answer["failure"]["code"] == "registry_unsafe"
    assert not target.exists()


def test_a_pin_file_that_is_a_link_is_refused(primary: Hsm) -> None:
    pin_file = primary.scratch / "pins" / "linked"
    pin_file.parent.mkdir(exist_ok=True)
    pin_file.symlink_to("/etc/hostname")
    answer = primary.run("hsm_key", instance="primary", pin_file=str(pin_file), keys=[{"label": "a", "type": "AES"}])
    assert answer["failure"]["code"] == "pin_file_unsafe"
    assert "is a symbolic link" in answer["msg"]


HOLD = """
import fcntl, os, sys
os.setuid(int(sys.argv[2]))
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path, user: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(user)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_that_a_stranger_keeps_is_told_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for folder in tmp_path.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    tmp_path.chmod(0o711)
    monkeypatch.setattr(locks, "lock_folder", lambda: tmp_path)
    monkeypatch.setattr(locks, "_TOLD_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_STRANGER_SECONDS", 0.3)
    monkeypatch.setattr(locks.syslog, "syslog", lambda _level, text: said.append(text))
    with locks.HostLock("token 'x'", "x") as lock:
        lock.acquire()
    with hold(lock.path, NOBODY) as process:
        with pytest.raises(TokenError, match=f"by process {process.pid} of user id {NOBODY}") as raised:
            lock.acquire()
        process.communicate(b"")
    assert raised.value.code == "lock_timeout"
    assert said == [f"keyfleet.hsm waits for token 'x', which is in use, by process {process.pid} of user id {NOBODY}"]
    lock.release()


def test_a_run_of_ones_own_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "lock_folder", lambda: tmp_path)
    monkeypatch.setattr(locks, "_STRANGER_SECONDS", 0.1)
    with locks.HostLock("token 'x'", "x") as lock:
        lock.acquire()
    with hold(lock.path, os.geteuid()) as process:
        ended = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill {process.pid}"])
        assert lock.acquire() is True
        process.wait()
        ended.wait()
    lock.release()


def test_the_folder_of_the_locks_is_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "keyfleet"
    monkeypatch.setattr(locks, "_RUN", run)
    assert locks.lock_folder() == run / "locks"
    assert (stat.S_IMODE(run.stat().st_mode), stat.S_IMODE((run / "locks").stat().st_mode)) == (0o755, 0o1777)
    assert locks.lock_folder() == run / "locks"
    # Of somebody else, or a link to it: not used.
    os.chown(run / "locks", NOBODY, NOBODY)
    assert locks.lock_folder() != run / "locks"
    (run / "locks").rename(run / "real")
    os.chown(run / "real", 0, 0)
    (run / "locks").symlink_to(run / "real")
    assert locks.lock_folder() != run / "locks"


def test_a_user_without_rights_takes_the_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "keyfleet"
    monkeypatch.setattr(locks, "_RUN", run)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert locks.lock_folder() != run / "locks"
    assert not run.exists()
    monkeypatch.undo()
    monkeypatch.setattr(locks, "_RUN", run)
    locks.lock_folder()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert locks.lock_folder() == run / "locks"
