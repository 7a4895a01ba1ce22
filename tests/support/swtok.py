# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""opencryptoki's software token, a second real provider and one that really locks: three wrong PINs.

:func:`running` uses the machine's own swtok slot, and refuses to touch a token there that is not these tests'. :class:`Two` are two
tokens of an opencryptoki of their own.
"""

from __future__ import annotations

import fcntl
import glob
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forked import Server

LABEL, SO_PIN, PIN = "keyfleet-test", "76543210", "246801"
FIRST_SO_PIN = "87654321"  # opencryptoki's, until it is changed
SLOT = "3"  # swtok in Debian's opencryptoki.conf


def library_path() -> str:
    return glob.glob("/usr/lib/*/opencryptoki/libopencryptoki.so.0")[0]


def pkcsconf(*args: str, stdin: str = "") -> str:
    done = subprocess.run(["pkcsconf", "-c", SLOT, *args], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pkcsconf {args[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for_slots(library: str) -> str:
    """The slot daemon answers when the library can be loaded; it has no readiness signal of its own."""
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(["pkcs11-tool", "--module", library, "-L"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and f"(0x{SLOT})" in done.stdout:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


@contextmanager
def _alone() -> Iterator[None]:
    """The token is the machine's: tests of another checkout that use it now would take tries of its PIN, too."""
    with open(os.path.join(tempfile.gettempdir(), "keyfleet-test-swtok.lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def running() -> Iterator[dict[str, Any]]:
    """Arguments of hsm_instance for the swtok token, with a good user PIN and a full count."""
    with _alone(), _started() as arguments:
        yield arguments


@contextmanager
def _started() -> Iterator[dict[str, Any]]:
    library = library_path()
    daemon = None
    # Not one of a container, which has a namespace of its own.
    search = ["pgrep", "--ns", str(os.getpid()), "--nslist", "pid", "-x", "pkcsslotd"]
    if subprocess.run(search, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        daemon = subprocess.Popen(["pkcsslotd", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        slots = wait_for_slots(library)
        if "uninitialized" in slots:
            pkcsconf("-I", "-S", FIRST_SO_PIN, stdin=LABEL + "\n")
            pkcsconf("-P", "-S", FIRST_SO_PIN, "-n", SO_PIN)
        else:
            assert LABEL in slots, "swtok holds a token that is not this test's: it is left alone"
        pkcsconf("-u", "-S", SO_PIN, "-n", "135790")
        pkcsconf("-p", "-U", "135790", "-n", PIN)
        yield {"name": "ock", "model": "opencryptoki", "library": library}
    finally:
        if daemon is not None:
            daemon.terminate()
            daemon.wait(timeout=30)


class Two:
    """``first``, which has the PINs of this file, and a token that is as after the installation. Calls of modules go by ``server``."""

    def __init__(self) -> None:
        self.library = library_path()
        self.server = Server(str(Path(__file__).with_name("two_swtok.sh")))

    def other_program(self, *command: str, stdin: str = "") -> str:
        """What a command says that sees these two."""
        # The process that forks: the one that was started waits for it outside.
        found = subprocess.run(["pgrep", "--parent", str(self.server.process.pid)], capture_output=True, text=True, check=True)
        inside = ["nsenter", "--mount", "--ipc", "--pid", "--target", found.stdout.strip()]
        done = subprocess.run([*inside, *command], input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout
