# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of the test hosts: made from the distribution's archive, kept for all checkouts on a machine as long as they use them."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from pathlib import Path

from machine import Problem, Room, call, locked
from python_start import START

RELEASES = ("bookworm", "trixie")
UNUSED = 14 * 86400  # seconds until an image is deleted that no checkout has used
USER = "admin"

PACKAGES = (
    # The init system, and what it talks through.
    "systemd",
    "systemd-sysv",
    "dbus",
    # The way in, and from there to root.
    "openssh-server",
    "sudo",
    # What Ansible and the collection's runtime start from.
    "python3",
    "python3-venv",
    "ca-certificates",
    "iproute2",
    # Ansible's module apt installs it where it is missing. Scenario package takes it away first.
    "python3-apt",
)

# These reach through a privileged container to the kernel, which is this machine's: settings, modules, file systems.
# The timers of apt would hold its lock in the middle of a test.
MASKED = (
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "getty.target",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
)

# Python keeps the bytecode of what it imports, but not of what it imports from an archive, as Ansible's modules come.
# Where an administrator's own start-up code goes, Debian has a file for each Python.

# systemd mounts a service's credentials in a namespace of its own. In a container / is a private mount, and they would be lost there.
SHARED = """[Unit]
Description=Mounts that services see, as on a host that is no container
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/mount --make-rshared /
[Install]
WantedBy=sysinit.target
"""

# An image is put together in memory: a disk's file system takes half of the time, for twenty thousand files that are gone soon.
# $1: an empty folder, which is empty for everybody else. The command that makes the image follows.
IN_MEMORY = """
mount -t tmpfs -o mode=0755 keyfleet "$1"
export TMPDIR="$1"
shift
exec "$@"
"""

# Run with the image's root folder as $1, after its packages are there. The keys that the package openssh-server made
# would be the same on every host: each gets its own when it is made. An empty machine-id is filled at the first start.
# The lists of the archive stay, so that hosts fetch only what is newer.
FINISH = f"""
rm -f "$1"/etc/ssh/ssh_host_*
: >"$1/etc/machine-id"
chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 {USER}
printf '%s\\n' '{USER} ALL=(ALL:ALL) NOPASSWD: ALL' >"$1/etc/sudoers.d/{USER}"
chmod 0440 "$1/etc/sudoers.d/{USER}"
chroot "$1" systemctl --quiet mask {" ".join(MASKED)}
printf '%s' {shlex.quote(SHARED)} >"$1/etc/systemd/system/shared-mounts.service"
chroot "$1" systemctl --quiet enable shared-mounts.service
for folder in "$1"/etc/python3.*; do
  printf '%s' {shlex.quote(START)} >"$folder/sitecustomize.py"
done
mkdir -m 1777 "$1/var/cache/bytecode"
"""


def recipe(release: str) -> list[str]:
    """The command that makes the image, without the file to write."""
    mirror = os.environ.get("MIRROR") or "http://deb.debian.org/debian"
    sources = [
        f"deb {mirror} {release} main",
        f"deb {mirror} {release}-updates main",
        f"deb {mirror}-security {release}-security main",
    ]
    # A half-made image is thrown away, so nothing need be flushed to the disk.
    options = ["--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Languages none"]
    options += ["--skip=cleanup/apt/lists", f"--customize-hook={FINISH.strip()}"]
    # Packages compile beside their sources, not where that of this checkout is kept: their removal would not find it. What else runs in
    # there leaves nothing.
    environment = ["env", "--unset=PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE=1"]
    return [*environment, "mmdebstrap", *options, "--include=" + ",".join(PACKAGES), release, *sources]


def tag(release: str) -> str:
    stamp = hashlib.sha256(json.dumps(recipe(release)).encode()).hexdigest()[:12]
    return f"localhost/keyfleet-host-{release}:{stamp}"


def ensure(room: Room, cache: Path, release: str) -> str:
    """The name of the image, which is built and brought into the store of all rooms where that was not done before."""
    image = tag(release)
    archive = archived(cache, release)
    with locked(cache / "store.lock"):
        if image not in stored(room):
            print(f"Importing the image of {release}", flush=True)
            room.podman_shared("import", "--quiet", str(archive), image)
        for older in stored(room):
            if older.startswith(f"localhost/keyfleet-host-{release}:") and not file_of(cache, older).exists():
                room.podman_shared("rmi", older)
    return image


def file_of(cache: Path, image: str) -> Path:
    release, stamp = image.removeprefix("localhost/keyfleet-host-").split(":")
    return cache / f"{release}-{stamp}.tar"


def archived(cache: Path, release: str) -> Path:
    """The image as a file, built where that was not done before. Whoever else wants it at this time waits for it."""
    archive = file_of(cache, tag(release))
    with locked(cache / f"{release}.lock"):
        if not archive.exists():
            build(archive, release)
        os.utime(archive)
        drop_unused(cache, release)
    return archive


def drop_unused(cache: Path, release: str) -> None:
    """Those of an older recipe, which another checkout may have, and what a build left behind that was cut off."""
    for older in cache.glob(f"*{release}-*.tar"):
        if older.stat().st_mtime < time.time() - UNUSED:
            older.unlink()


def build(archive: Path, release: str) -> None:
    print(f"Building the image of {release} from the archive of Debian", flush=True)
    started = time.monotonic()
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_name(f"{os.getpid()}-{archive.name}")
    command = recipe(release)
    command.insert(command.index(release) + 1, str(unfinished))
    folder = unfinished.with_suffix(".root")
    folder.mkdir(exist_ok=True)
    try:
        call(["unshare", "--mount", "sh", "-ec", IN_MEMORY, "sh", str(folder), *command])
        unfinished.rename(archive)
    except Problem as problem:
        raise Problem(f"The image of {release} could not be built. Set MIRROR if the archive is elsewhere.\n{problem}") from problem
    finally:
        unfinished.unlink(missing_ok=True)
        folder.rmdir()
    print(f"Built in {time.monotonic() - started:.0f} s", flush=True)


def stored(room: Room) -> list[str]:
    return room.podman_shared("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
