# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the test hosts take from this machine: a mount namespace, podman in it, locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

MACHINE_LOCK = Path("/run/lock/keyfleet-hosts.lock")
# How long what is ending may take to be gone. The kernel needs moments, a machine under load a few seconds.
SETTLING = 30.0

# Run inside the new namespace. $1: the folder of the run, $2: the type of file system at /sys/fs/cgroup.
FURNISH = """
if [ "$2" != cgroup2 ]; then
  # crun wants cgroup v2 alone. The hierarchies of v1 stay as they are outside.
  [ -z "$2" ] || umount --recursive /sys/fs/cgroup
  mount -t cgroup2 none /sys/fs/cgroup
fi
# podman's state of this run: it is gone with the namespace, so what a crash leaves is never taken for running.
mkdir -p "$1/podman"
mount -t tmpfs -o mode=0755 keyfleet "$1/podman"
# The name servers of all networks share this folder, whatever podman's options say: without it, one checkout's name server
# would serve another's hosts, and keep this namespace when its own hosts are gone.
mkdir -p /run/containers
mount -t tmpfs -o mode=0755 keyfleet /run/containers
# crun's state of this run, which a removal that failed half-way leaves behind: gone with the namespace as well.
mkdir -p /run/crun
mount -t tmpfs -o mode=0700 keyfleet /run/crun
# podman keeps its locks here, the same for every store of a machine. Ours are our own.
mount -t tmpfs -o mode=1777 keyfleet /dev/shm
"""


class Problem(Exception):
    """Something that a person has to mend. The text says what."""


def call(command: Sequence[str], *, stdin: bytes | None = None, timeout: float | None = None) -> str:
    """Run a command and return what it prints; a Problem with its last words when it fails."""
    # C.UTF-8, since messages are passed on. An empty containers.conf, since the machine's own is not meant for these hosts.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "CONTAINERS_CONF": "/dev/null"}
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, env=environment, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-15:]
        raise Problem("\n".join([f"{' '.join(command[:6])} ... failed ({done.returncode}):", *words]))
    return done.stdout.decode(errors="replace").strip()


def settle(attempt: Callable[[], object]) -> None:
    """Make an attempt again until it succeeds: one that may fail only because something ends beside it.

    A container ends while it is removed, a process of it while its group is, a mount of it while the one below is: crun,
    rmdir and umount then fail, and do not a moment later. A Problem that stays for SETTLING seconds is raised.
    """
    deadline = time.monotonic() + SETTLING
    while True:
        try:
            attempt()
            return
        except Problem:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mounted(path: Path) -> str | None:
    """The type of the file system that is mounted there, the topmost one."""
    found = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        where, kind = line.split(" ")[1:3]
        if where.encode().decode("unicode_escape") == str(path):
            found = kind
    return found


def check() -> None:
    """Say what this machine lacks, before anything is made."""
    if os.geteuid() != 0:
        raise Problem("Test hosts are containers with systemd as PID 1, made from scratch. That takes root: run this as root.")
    if not shutil.which("podman"):
        raise Problem("podman is not installed. Use make hosts-up, which installs it.")
    shutil.which("modprobe") and subprocess.run(["modprobe", "-a", "overlay"], capture_output=True, check=False)
    kinds = Path("/proc/filesystems").read_text().split()
    if "cgroup2" not in kinds:
        raise Problem("This kernel has no cgroup v2, and systemd hosts need it.")
    if "overlay" not in kinds and not Path("/dev/fuse").exists():
        raise Problem("This kernel has neither overlayfs nor FUSE, and the hosts share one image by one of them.")


def within(limit: int, most: int) -> str:
    """A limit for the hosts, written as podman wants it: never above what this machine grants."""
    hard = resource.getrlimit(limit)[1]
    value = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"{value}:{value}"


class Room:
    """A private mount namespace with podman in it, whose store is in ``home``.

    The store, the networks and the namespace belong to ``home`` alone, and so does every name, which comes from a hash of
    its path. Containers of others, on the same machine, are never in sight. Images are read from ``shared``, a store of all rooms.
    """

    def __init__(self, home: Path, shared: Path) -> None:
        self.home = home.resolve()
        self.shared = shared.resolve()
        self.name = "keyfleet-" + hashlib.sha256(str(self.home).encode()).hexdigest()[:10]
        self.run = Path("/run") / self.name
        self.door = self.run / "namespace"
        # Outside of the folder above: a listening socket would keep that from being unmounted.
        self.sockets = Path(f"{self.run}-ssh")

    def is_open(self) -> bool:
        return mounted(self.door) == "nsfs"

    def open(self) -> None:
        if self.is_open():
            return
        self._forget()
        self.home.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(mode=0o700)
        self.sockets.mkdir(mode=0o700)
        # A namespace can be kept by a file only where mounts do not spread.
        call(["mount", "--bind", str(self.run), str(self.run)])
        call(["mount", "--make-private", str(self.run)])
        self.door.touch()
        kind = mounted(Path("/sys/fs/cgroup")) or ""
        try:
            # slave: what the machine unmounts later is not held here.
            unshare = ["unshare", f"--mount={self.door}", "--propagation", "slave"]
            call([*unshare, "sh", "-ec", FURNISH, "sh", str(self.run), kind])
            (self.run / "overlay").write_text("native" if self._overlay_works() else "fuse")
        except Problem as problem:
            self._forget()
            raise Problem(f"This machine does not let root make a mount namespace with cgroup v2 in it.\n{problem}") from problem

    def close(self) -> None:
        """Take the namespace away, and with it every mount that was made in it."""
        if self.is_open():
            group = Path("/sys/fs/cgroup") / self.name
            # systemd leaves groups behind when it is killed.
            empty = ["sh", "-ec", 'test ! -d "$1" || find "$1" -depth -type d -exec rmdir {} +', "sh", str(group)]
            settle(lambda: self.enter(empty))
        self._forget()

    def _forget(self) -> None:
        for path in (self.door, self.run):
            while mounted(path):
                settle(partial(call, ["umount", str(path)]))
        self.hang_up()
        for path in (self.run, self.sockets):
            shutil.rmtree(path, ignore_errors=True)

    def hang_up(self) -> None:
        """End the connections that Ansible keeps open: one to a host that is gone would hang for the next with its address."""
        for socket in self.sockets.glob("*"):
            with suppress(Problem):
                call(["ssh", "-F", "/dev/null", "-O", "exit", "-o", f'ControlPath="{socket}"', "any"], timeout=10)
            socket.unlink(missing_ok=True)

    def _overlay_works(self) -> bool:
        """Can overlayfs write into ``home``? It cannot when that is on an overlay itself, or on some network file systems."""
        trial = self.home / "trial"
        script = 'cd "$1" && mkdir l u w m && mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m && umount m'
        trial.mkdir(exist_ok=True)
        try:
            self.enter(["sh", "-ec", script, "sh", str(trial)])
        except Problem:
            return False
        finally:
            shutil.rmtree(trial)
        return True

    def enter(self, command: Sequence[str], *, stdin: bytes | None = None, timeout: float | None = None) -> str:
        return call(["nsenter", f"--mount={self.door}", *command], stdin=stdin, timeout=timeout)

    def podman(self, *arguments: str, stdin: bytes | None = None, timeout: float | None = None) -> str:
        options: dict[str, Path | str] = {
            "root": self.home / "storage",
            "runroot": self.run / "podman/run",
            "tmpdir": self.run / "podman/tmp",
            "network-config-dir": self.home / "networks",
            "network-backend": "netavark",
        }
        stores = [f"overlay.imagestore={self.shared}"] if self.shared.exists() else []
        return self._podman(options, stores, arguments, stdin=stdin, timeout=timeout)

    def podman_shared(self, *arguments: str) -> str:
        """In the store of all rooms, by one at a time."""
        self.shared.parent.mkdir(parents=True, exist_ok=True)
        # A store remembers where its state of a run is: for every room the same path, which FURNISH makes its own.
        state = Path("/run/containers/shared")
        options: dict[str, Path | str] = {"root": self.shared, "runroot": state / "run", "tmpdir": state / "tmp"}
        return self._podman(options, [], arguments)

    def _podman(
        self,
        options: Mapping[str, Path | str],
        storage: Sequence[str],
        arguments: Sequence[str],
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
    ) -> str:
        always = {"cgroup-manager": "cgroupfs", "events-backend": "file", "runtime": "crun", "storage-driver": "overlay"}
        if (self.run / "overlay").read_text() == "fuse":
            storage = [*storage, "overlay.mount_program=/usr/bin/fuse-overlayfs"]
        flags = [f"--{name}={value}" for name, value in {**options, **always}.items()] + [f"--storage-opt={option}" for option in storage]
        return self.enter(["podman", *flags, *arguments], stdin=stdin, timeout=timeout)
