# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test hosts: Debian with systemd as PID 1, reached over SSH. ``make hosts-up`` and ``make hosts-down`` call this.

Every host is on the network ``inside``, which has no way out of this machine. Hosts that are not offline are on ``outside``, too.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import ipaddress
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import images
from machine import MACHINE_LOCK, Problem, Room, call, check, locked, settle, within

LABEL = "keyfleet.host"
# From start to an answer over SSH. Takes two seconds where nothing else runs.
PATIENCE = 90.0
MOST = 100
SYSTEMD = "/lib/systemd/systemd"


@dataclass(frozen=True)
class Host:
    name: str
    release: str
    offline: bool
    # The last part of its address, so that a host that starts again has the one that the inventory names.
    number: int


def wanted(count: int, releases: list[str], offline: int) -> list[Host]:
    """host1, host2... and offline1, offline2..., which take their releases in turn."""
    if not (0 <= count <= MOST and 0 <= offline <= MOST):
        raise Problem(f"N and OFFLINE go from 0 to {MOST}.")
    if not releases or set(releases) - set(images.RELEASES):
        raise Problem(f"DEBIAN is one of {', '.join(images.RELEASES)}, or several with commas between them.")
    online = [Host(f"host{i + 1}", releases[i % len(releases)], False, 10 + i) for i in range(count)]
    return online + [Host(f"offline{i + 1}", releases[i % len(releases)], True, 130 + i) for i in range(offline)]


class Fleet:
    def __init__(self, home: Path, cache: Path) -> None:
        self.room = Room(home, cache / "store")
        self.home = self.room.home
        self.cache = cache
        self.key = self.home / "ssh/id_ed25519"
        self.known_hosts = self.home / "known_hosts"
        self.inventory = self.home / "inventory.yml"
        self.inside = f"{self.room.name}-inside"
        self.outside = f"{self.room.name}-outside"

    def container(self, host: Host) -> str:
        return f"{self.room.name}-{host.name}"

    def up(self, hosts: list[Host]) -> None:
        fresh = not self.room.is_open()
        self.room.open()
        if fresh:
            # The machine was started anew: nothing of these hosts is left but their files.
            self._remove(list(self._all()))
        made_from = {release: images.ensure(self.room, self.cache, release) for release in sorted({host.release for host in hosts})}
        self._key_pair(self.key, "test hosts")
        stamps = {self.container(host): self._stamp(host, made_from[host.release]) for host in hosts}
        self._remove([name for name, stamp in self._all().items() if stamps.get(name) != stamp])
        here = self._all()
        for container in here:
            # Starts one that someone stopped. One that reboots ends meanwhile.
            settle(partial(self.room.podman, "start", container))
        missing = [host for host in hosts if self.container(host) not in here]
        if missing:
            # From the choice of free addresses until the first host holds them, nobody else may choose.
            with locked(MACHINE_LOCK):
                self._networks([host for host in hosts if self.container(host) in here])
                for host in missing:
                    self._start(host, made_from[host.release], stamps[self.container(host)])
        addresses = {host.name: self._address(host) for host in hosts}
        self._write(hosts, addresses)
        for host in hosts:
            self._wait(host, addresses[host.name])

    def down(self, *, everything: bool = False) -> None:
        if self.home.exists():
            if shutil.which("podman") and (self.room.is_open() or (self.home / "storage").exists()):
                check()
                self.room.open()
                self._remove(list(self._all()))
                for network in self.room.podman("network", "ls", "--quiet", "--filter", f"label={LABEL}").splitlines():
                    settle(partial(self.room.podman, "network", "rm", "--force", network))
            self.room.close()
        for folder in ("ssh", "networks", *(["storage"] if everything else [])):
            if (self.home / folder).exists():
                shutil.rmtree(self.home / folder)
        for file in (self.inventory, self.known_hosts):
            file.unlink(missing_ok=True)
        if everything and self.cache.exists():
            shutil.rmtree(self.cache)

    def _all(self) -> dict[str, str]:
        """The containers that are there, and what each was made from."""
        form = f'{{{{.Names}}}} {{{{index .Labels "{LABEL}"}}}}'
        lines = self.room.podman("ps", "--all", "--filter", f"label={LABEL}", "--format", form).splitlines()
        return {name: stamp for name, _blank, stamp in (line.partition(" ") for line in lines)}

    def _remove(self, containers: list[str]) -> None:
        for container in containers:
            print(f"Removing {container.removeprefix(self.room.name + '-')}", flush=True)
            # One that is gone although its removal failed is what was wanted.
            settle(partial(self.room.podman, "rm", "--force", "--ignore", "--time", "0", container))
        if containers:
            self.room.hang_up()

    def _networks(self, here: list[Host]) -> None:
        """Both networks. One without a host is made anew, since others may have taken its addresses meanwhile."""
        for network, used in ((self.inside, bool(here)), (self.outside, any(not host.offline for host in here))):
            if not used:
                settle(partial(self.room.podman, "network", "rm", "--force", network))
                # Names are those of the inside alone: a host that had two addresses would not be the one of the inventory.
                kind = "--internal" if network == self.inside else "--disable-dns"
                self.room.podman("network", "create", "--label", LABEL, kind, network)

    def _arguments(self, host: Host, image: str) -> list[str]:
        """How a host is run. A host that was run in another way is made anew."""
        return [
            *("--hostname", host.name),
            # systemd wants to make mounts and groups. Less than this needs a limit raised that machines may not grant.
            *("--systemd=always", "--privileged"),
            # A host that reboots comes back.
            *("--restart=always", "--pids-limit=-1"),
            # The defaults of podman are above what some machines grant.
            *("--ulimit", f"nofile={within(resource.RLIMIT_NOFILE, 10000)}", "--ulimit", f"nproc={within(resource.RLIMIT_NPROC, 30000)}"),
            *("--cgroup-parent", f"/{self.room.name}", "--log-driver=none"),
            *([] if host.offline else ["--network", self.outside]),
            *(image, SYSTEMD),
        ]

    def _stamp(self, host: Host, image: str) -> str:
        text = json.dumps([self._arguments(host, image), host.number, self.key.with_suffix(".pub").read_text()])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _start(self, host: Host, image: str, stamp: str) -> None:
        print(f"Starting {host.name} ({host.release}{', offline' if host.offline else ''})", flush=True)
        container = self.container(host)
        subnet = ipaddress.ip_network(
            self.room.podman("network", "inspect", "--format", "{{range .Subnets}}{{.Subnet}}{{end}}", self.inside), strict=True
        )
        network = f"{self.inside}:ip={subnet[host.number]},alias={host.name}"
        labels = ["--label", f"{LABEL}={stamp}"]
        self.room.podman("create", "--name", container, *labels, "--network", network, *self._arguments(host, image))
        root = self.room.podman("mount", container)
        self.room.enter(["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--directory", root], stdin=self._luggage(host))
        self.room.podman("unmount", container)
        self.room.podman("start", container)

    def _luggage(self, host: Host) -> bytes:
        """What a host is given before its first start, as an archive: who may log in, and the key by which it is known."""
        own = self.home / "ssh" / host.name
        self._key_pair(own, host.name)
        home = f"home/{images.USER}/.ssh"
        files = {
            f"{home}/authorized_keys": (0o600, self.key.with_suffix(".pub").read_bytes()),
            "etc/ssh/ssh_host_ed25519_key": (0o600, own.read_bytes()),
            "etc/ssh/ssh_host_ed25519_key.pub": (0o644, own.with_suffix(".pub").read_bytes()),
        }
        if authorities := os.environ.get("PIP_CERT"):
            # Where this machine's pip trusts other authorities than its own, the hosts' pip has to.
            files["etc/ssl/machine.pem"] = (0o644, Path(authorities).read_bytes())
            files["etc/pip.conf"] = (0o644, b"[global]\ncert = /etc/ssl/machine.pem\n")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            folder = tarfile.TarInfo(home)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o700, int(time.time())
            folder.uid = folder.gid = 1000
            tar.addfile(folder)
            for name, (mode, content) in files.items():
                entry = tarfile.TarInfo(name)
                entry.mode, entry.size, entry.mtime = mode, len(content), int(time.time())
                entry.uid = entry.gid = 1000 if name.startswith(home) else 0
                tar.addfile(entry, io.BytesIO(content))
        return archive.getvalue()

    def _key_pair(self, path: Path, comment: str) -> None:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])

    def _address(self, host: Host) -> str:
        form = f'{{{{(index .NetworkSettings.Networks "{self.inside}").IPAddress}}}}'
        return self.room.podman("inspect", "--format", form, self.container(host))

    def _write(self, hosts: list[Host], addresses: dict[str, str]) -> None:
        keys = {host.name: (self.home / "ssh" / host.name).with_suffix(".pub").read_text().split()[:2] for host in hosts}
        lines = [f"{addresses[name]} {' '.join(key)}\n" for name, key in keys.items()]
        self.known_hosts.write_text("".join(lines))
        self.inventory.write_text(inventory(hosts, addresses, self._variables()))

    def _variables(self) -> dict[str, str]:
        options = ["-F /dev/null", "-o IdentitiesOnly=yes", "-o StrictHostKeyChecking=yes"]
        # Quotes within quotes: one pair is for Ansible, the other for ssh, which splits at blanks as well.
        options.append(f"-o 'UserKnownHostsFile=\"{self.known_hosts}\"'")
        return {
            "ansible_user": images.USER,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(options),
            "ansible_control_path_dir": str(self.room.sockets),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_remote_tmp": f"/home/{images.USER}/.ansible/tmp",
        }

    def _wait(self, host: Host, address: str) -> None:
        """Until systemd has started everything and SSH lets us in. Both are asked, and both may not be there yet."""
        deadline = time.monotonic() + PATIENCE
        container = self.container(host)
        ssh = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        ssh += ["-o", "StrictHostKeyChecking=yes", "-o", f'UserKnownHostsFile="{self.known_hosts}"', "-o", "ConnectTimeout=5"]
        for asked in ("systemd", "sshd"):
            while True:
                left = deadline - time.monotonic()
                try:
                    if asked == "systemd":
                        self.room.podman("exec", container, "systemctl", "is-system-running", "--wait", timeout=max(left, 1))
                    else:
                        call([*ssh, f"{images.USER}@{address}", "true"], timeout=max(left, 1))
                    break
                except (Problem, subprocess.TimeoutExpired) as problem:
                    failed = self._failed_units(container)
                    if left <= 0 or failed:
                        raise Problem("\n".join([f"{host.name} is not ready.", *failed, str(problem)])) from problem
                    time.sleep(0.1)

    def _failed_units(self, container: str) -> list[str]:
        try:
            return self.room.podman("exec", container, "systemctl", "--failed", "--no-legend", "--plain", timeout=10).splitlines()
        except (Problem, subprocess.TimeoutExpired):
            # It has not come so far that it could be asked.
            return []


def inventory(hosts: list[Host], addresses: dict[str, str], variables: dict[str, str]) -> str:
    """The inventory as YAML. A string of JSON is one of YAML, whatever is in it."""
    groups = {"hosts": hosts}
    for host in hosts:
        groups.setdefault(host.release, [])
        groups[host.release].append(host)
    if offline := [host for host in hosts if host.offline]:
        groups["offline"] = offline
    lines = ["# The test hosts. Written by make hosts-up.", "all:", "  vars:"]
    lines += [f"    {name}: {json.dumps(value)}" for name, value in variables.items()]
    lines += ["  children:"]
    for group, members in groups.items():
        lines += [f"    {group}:", "      hosts:" if members else "      hosts: {}"]
        lines += [f"        {host.name}: {{ansible_host: {json.dumps(addresses[host.name])}}}" for host in members]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="hosts.sh", description="Debian hosts with systemd and SSH, for tests.")
    parser.add_argument("--home", type=Path, required=True, help="what belongs to these hosts")
    parser.add_argument("--cache", type=Path, required=True, help="where images are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="these hosts and no others")
    up.add_argument("--hosts", type=int, default=3, metavar="N")
    up.add_argument("--debian", default="bookworm", metavar="RELEASE,...")
    up.add_argument("--offline", type=int, default=0, metavar="N", help="so many more, without a way out of this machine")
    make = commands.add_parser("images", help="what hosts are made from, and no hosts")
    make.add_argument("--debian", default="bookworm", metavar="RELEASE,...")
    down = commands.add_parser("down", help="no hosts")
    down.add_argument("--images", action="store_true", help="the images, too")
    given = parser.parse_args()
    fleet = Fleet(given.home, given.cache)
    try:
        if given.command == "down" and not fleet.home.exists():
            return 0
        if given.command == "up":
            check()
        if given.command == "images":
            for host in wanted(len(given.debian.split(",")), given.debian.split(","), 0):
                images.archived(given.cache, host.release)
            return 0
        with locked(fleet.home / "lock"):
            if given.command == "up":
                fleet.up(wanted(given.hosts, given.debian.split(","), given.offline))
                print(f"\n{fleet.inventory}:\n{fleet.inventory.read_text()}", end="")
            else:
                fleet.down(everything=given.images)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
