# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives a group access to the tokens of SoftHSM2, and takes every access away from others. Runs on the target.

Whoever is in the group can put anything into the token directory while this runs as root. So nothing is reached by a path that could
have been exchanged: every folder and file is opened from the folder above it, never through a link, and changed when it is open.
"""

from __future__ import annotations

import argparse
import grp
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# SoftHSM2 names the folder of a token so. A folder that was copied may have another name; then the token's file tells.
TOKEN_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TOKEN_FILES = ("token.object", "sqlite3.db")
FOLDER_BITS = stat.S_ISGID | stat.S_IRWXU | stat.S_IRWXG
FILE_BITS = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP
MANY_LINKS = 40
# A token with ten thousand keys has twenty thousand files.
NAMES_SHOWN = 10


class Refused(Exception):
    """The token directory cannot be what was meant. The message is for people."""


@contextmanager
def opened(name: str, parent: int, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder(path: str) -> int:
    """The folder at ``path``. A link on the way has to be root's or our own: others could exchange theirs."""
    here = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    todo = [part for part in path.split("/") if part]
    links = 0
    while todo:
        part = todo.pop(0)
        found = os.lstat(part, dir_fd=here)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if found.st_uid not in (0, os.geteuid()) or links > MANY_LINKS:
                problem = "is a link that belongs neither to root nor to this user. Remove it, or give the real path."
                raise Refused(f"'{part}' in {path} {problem}")
            target = os.readlink(part, dir_fd=here)
            todo[:0] = [name for name in target.split("/") if name]
            following = os.open("/" if target.startswith("/") else ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        else:
            following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
        os.close(here)
        here = following
    return here


def holds_token(folder: int) -> bool:
    return any(name in TOKEN_FILES for name in os.listdir(folder))


class Pass:
    """One walk through the token directory."""

    def __init__(self, path: str, group: int, check: bool) -> None:
        self.path = path
        self.group = group
        self.check = check
        self.changed: list[str] = []
        self.left_alone: list[str] = []

    def walk(self, top: int) -> None:
        tokens: list[str] = []
        others: list[str] = []
        for name in sorted(os.listdir(top)):
            found = os.lstat(name, dir_fd=top)
            (tokens if stat.S_ISDIR(found.st_mode) and self.is_token(name, top) else others).append(name)
        if others and not tokens and others != ["lost+found"]:
            raise Refused(
                f"{self.path} is not empty and holds no token: {', '.join(others[:5])}{' and more' if len(others) > 5 else ''}. "
                "Its modes would be changed. Give a folder that is for tokens alone."
            )
        self.left_alone += [name for name in others if name != "lost+found"]
        self.set(top, ".", FOLDER_BITS)
        for name in tokens:
            self.token(name, top)

    def is_token(self, name: str, top: int) -> bool:
        if TOKEN_NAME.fullmatch(name):
            return True
        with opened(name, top, os.O_DIRECTORY) as folder:
            return holds_token(folder)

    def token(self, token: str, top: int) -> None:
        with opened(token, top, os.O_DIRECTORY) as folder:
            self.set(folder, token, FOLDER_BITS)
            for name in sorted(os.listdir(folder)):
                # A key that another program destroys in this moment needs no access.
                try:
                    self.file(name, folder, f"{token}/{name}")
                except FileNotFoundError:
                    continue

    def file(self, name: str, folder: int, shown: str) -> None:
        if not stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
            self.left_alone.append(shown)
            return
        with opened(name, folder) as descriptor:
            self.set(descriptor, shown, FILE_BITS)

    def set(self, descriptor: int, shown: str, bits: int) -> None:
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode) & ~stat.S_IRWXO | bits
        if (found.st_gid, stat.S_IMODE(found.st_mode)) == (self.group, mode):
            return
        # Its other name may be a file that is somebody else's.
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            self.left_alone.append(shown)
            return
        self.changed.append(shown)
        if self.check:
            return
        try:
            # In this order: a change of the group may take bits away again.
            os.fchown(descriptor, -1, self.group)
            os.fchmod(descriptor, mode)
        except OSError as error:
            raise Refused(f"{self.path}/{shown}: {error.strerror}") from error


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    answer: dict[str, Any] = {"count": 0, "names": [], "left_alone": [], "missing": False, "error": None}
    try:
        top = open_folder(arguments.path)
    except FileNotFoundError:
        answer["missing"] = True
    except (OSError, Refused) as error:
        answer["error"] = str(error)
    else:
        try:
            group = grp.getgrnam(arguments.group).gr_gid
        except KeyError:
            group = -1
        walk = Pass(arguments.path, group, arguments.check)
        try:
            if group < 0 and not arguments.check:
                raise Refused(f"there is no group {arguments.group} on this host.")
            walk.walk(top)
        except (OSError, Refused) as error:
            answer["error"] = str(error)
        answer.update(count=len(walk.changed), names=walk.changed[:NAMES_SHOWN], left_alone=walk.left_alone[:NAMES_SHOWN])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
