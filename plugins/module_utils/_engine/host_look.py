# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""host_look: what a role wants to know of a host before it decides whether there is anything to do. No HSM is asked."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import http.client
import os
import pwd
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from .._model.host_request import HostRequest, Search, Unit
from .._model.plan import Context, Outcome

_PROPERTIES = {"LoadState": "load", "ActiveState": "active", "UnitFileState": "enabled"}
_STARTED = "InactiveExitTimestamp"
_UNREAD = "NeedDaemonReload"
_PACKAGE = "${Package}\t${db:Status-Status}\t${db:Status-Want}\t${Version}\t${Architecture}\n"
_ARCHIVE = "${Package}\t${Version}\t${Architecture}"
_SECONDS = 5  # for a port of this host


def look(request: HostRequest, context: Context) -> Outcome:
    """host_look. What cannot be told is None: the caller goes the long way then, which says why."""
    values: dict[str, Any] = {
        "files": {path: _file(path) for path in request.files},
        "packages": _packages(request.packages, context) if request.packages else {},
        "archive": _archive(request.archive, context) if request.archive else None,
        "units": {unit.name: _unit(unit, context) for unit in request.units},
        "listening": [port for host, port in request.addresses if _listens((host, port))],
        "health": _health(request.health_url) if request.health_url else None,
        "found": [_found(search) for search in request.searches],
        "users": {user: _groups(user) for user in request.users},
    }
    return Outcome(changed=False, values=values)


def _file(path: str) -> str | None:
    """Kind, owner, group, mode and digest in one text, for example ``file root:root 0644 e3b0…``."""
    try:
        found = os.lstat(path)
        kind = "directory" if stat.S_ISDIR(found.st_mode) else "file" if stat.S_ISREG(found.st_mode) else "other"
        shown = f"{kind} {pwd.getpwuid(found.st_uid).pw_name}:{grp.getgrgid(found.st_gid).gr_name} {stat.S_IMODE(found.st_mode):04o}"
        return f"{shown} {_digest(path)}" if kind == "file" else shown
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (OSError, KeyError):  # not to be looked at, or of an owner without a name
        return None


def _digest(path: str) -> str:
    read = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            read.update(block)
    return read.hexdigest()


def _lines(context: Context, *command: str) -> list[str] | None:
    """What a program prints; None where it cannot be run. 1 is dpkg-query's answer to a name that it does not know."""
    if context.command is None or not os.access(command[0], os.X_OK):
        return None
    code, text, _errors = context.command(list(command))
    return text.splitlines() if code in (0, 1) else None


def _packages(names: Sequence[str], context: Context) -> dict[str, str] | None:
    """Of those that are installed: what dpkg is to do with them (install, hold), version and architecture, by name."""
    lines = _lines(context, "/usr/bin/dpkg-query", "--show", f"--showformat={_PACKAGE}", *names)
    rows = [line.split("\t") for line in lines or ()]
    return None if lines is None else {name: " ".join(rest) for name, status, *rest in rows if status == "installed"}


def _archive(path: str, context: Context) -> str | None:
    """What dpkg is to do with the package in a file, where it is installed as that file has it."""
    lines = _lines(context, "/usr/bin/dpkg-deb", "--show", f"--showformat={_ARCHIVE}", path)
    if not lines:
        return None
    name, version, architecture = lines[0].split("\t")
    there = (_packages([name], context) or {}).get(name, "")
    return there.removesuffix(f" {version} {architecture}") if there.endswith(f" {version} {architecture}") else None


def _unit(unit: Unit, context: Context) -> dict[str, Any] | None:
    """Of a unit whose files are asked for also whether its process has not seen one. systemd tells whole seconds of its start."""
    name = unit.name if unit.name.endswith((".service", ".timer")) else f"{unit.name}.service"
    shown = f"--property={','.join([*_PROPERTIES, _STARTED, _UNREAD])}"
    lines = _lines(context, "/usr/bin/systemctl", "show", *(["--timestamp=unix"] if unit.reads else []), shown, name)
    told = dict(line.split("=", 1) for line in lines or () if "=" in line)
    if not told:
        return None
    values: dict[str, Any] = {shown: told.get(name, "") for name, shown in _PROPERTIES.items()}
    if unit.reads:
        # A process that was started since is young, and yet of the unit that systemd has in memory.
        values["stale"] = told.get(_UNREAD) == "yes" or _stale(unit.reads, told.get(_STARTED, ""))
    return values


def _stale(files: Sequence[str], started: str) -> bool | None:
    try:
        return max((int(os.stat(path).st_mtime) for path in files if os.path.exists(path)), default=0) > int(started.removeprefix("@"))
    except (OSError, ValueError):
        return None


def _listens(address: tuple[str, int]) -> bool:
    # A name or a number that cannot be one is another's to refuse.
    with contextlib.suppress(OSError, OverflowError, UnicodeError), socket.create_connection(address, _SECONDS):
        return True
    return False


def _health(url: str) -> int | None:
    """The status of the answer. The host asks itself: a proxy is for what is elsewhere, and a redirect is no answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Straight())
    try:
        with opener.open(url, timeout=_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError, http.client.HTTPException):
        return None


class _Straight(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_asked: Any) -> None:
        return None


def _found(search: Search) -> list[str] | None:
    try:
        with os.scandir(search.folder) as entries:
            named = [entry for entry in entries if search.pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
            return sorted(entry.path for entry in named if time.time() - entry.stat().st_mtime >= search.age)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None


def _groups(user: str) -> list[str] | None:
    try:
        own = pwd.getpwnam(user).pw_gid
    except KeyError:
        return None
    return sorted(group.gr_name for group in grp.getgrall() if user in group.gr_mem or group.gr_gid == own)
