# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test tests: what shows a secret for a moment is seen."""

from __future__ import annotations

import os
import subprocess

import process_watch
import pytest
from eventually import eventually

SECRET = "kite830561"


@pytest.mark.parametrize(
    ("part", "command", "environment"),
    [
        ("cmdline", ["sh", "-c", "read begin; read gone", SECRET], {}),
        ("environ", ["sh", "-c", "read begin; read gone"], {"PIN": SECRET}),
        # Another program in the place of one that was looked at.
        ("cmdline", ["sh", "-c", "read begin; exec sh -c 'read gone' kite$((830560 + 1))"], {}),
        # A child of what is long there.
        ("environ", ["sh", "-c", "read begin; PIN=kite$((830560 + 1)) sh -c 'read gone; true'; true"], {}),
    ],
)
def test_a_process_that_shows_it(part: str, command: list[str], environment: dict[str, str]) -> None:
    with process_watch.watched(SECRET) as watcher:
        shown = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.PIPE)
        assert shown.stdin
        shown.stdin.write(b"\n")
        shown.stdin.flush()
        eventually(lambda: any(seen.startswith(part) for seen in watcher.seen))
        shown.communicate(b"\n")


def test_nothing_is_seen_of_what_shows_none() -> None:
    with process_watch.watched(SECRET) as watcher:
        subprocess.run(["sh", "-c", "sleep 0.05"], check=True)
        eventually(lambda: watcher.looked > 10)
    assert watcher.seen == set()
