# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test hosts themselves: are they what the tests of a fleet take them for?"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fleet_fixture import CHECKOUT, Fleet

HOSTS = ("host1", "host2", "offline1")
MIRROR = "deb.debian.org"


@pytest.mark.parametrize(("host", "release"), [("host1", "bookworm"), ("host2", "trixie"), ("offline1", "bookworm")])
def test_systemd_is_pid_1_and_no_unit_failed(fleet: Fleet, host: str, release: str) -> None:
    assert f"VERSION_CODENAME={release}\n" in fleet.ssh(host, "cat /etc/os-release").stdout
    assert fleet.ssh(host, "cat /proc/1/comm").stdout == "systemd\n"
    assert fleet.ssh(host, "systemctl is-system-running").stdout == "running\n"
    assert fleet.ssh(host, "systemctl --failed --no-legend").stdout == ""
    # What was compiled when the image was made lies beside its sources, and not where this checkout keeps it.
    assert fleet.ssh(host, f"ls {shlex.quote(str(CHECKOUT))}", sure=False).stderr.startswith("ls: cannot access")


def test_the_state_of_systemd_is_a_real_one(fleet: Fleet) -> None:
    fleet.ssh("host1", "sudo systemd-run --quiet --unit broken --wait false", sure=False)
    assert fleet.ssh("host1", "systemctl is-system-running", sure=False).stdout == "degraded\n"
    fleet.ssh("host1", "sudo systemctl reset-failed")
    assert fleet.ssh("host1", "systemctl is-system-running").stdout == "running\n"


def test_the_inventory_names_each_host_and_its_release(fleet: Fleet) -> None:
    assert fleet.groups() == {
        "hosts": list(HOSTS),
        "bookworm": ["host1", "offline1"],
        "trixie": ["host2"],
        "offline": ["offline1"],
    }


def test_ansible_reaches_all_as_user_and_as_root(fleet: Fleet) -> None:
    done = fleet.ansible("all", "-m", "ping")
    assert [done.stdout.count(f"{host} | SUCCESS") for host in HOSTS] == [1, 1, 1], done.stdout + done.stderr
    done = fleet.ansible("all", "--become", "-m", "command", "-a", "id -un")
    assert len(re.findall("^root$", done.stdout, re.MULTILINE)) == 3, done.stdout + done.stderr


def test_ansible_refuses_a_host_with_another_key(fleet: Fleet, tmp_path: Path) -> None:
    known = fleet.home / "known_hosts"
    keys = dict(line.split(" ", 1) for line in known.read_text().splitlines())
    addresses = fleet.addresses()
    assert len(set(keys.values())) == len(HOSTS)
    (tmp_path / "known_hosts").write_text(f"{addresses['host1']} {keys[addresses['host2']]}\n")
    (tmp_path / "inventory.yml").write_text(fleet.inventory.read_text().replace(str(known), str(tmp_path / "known_hosts")))
    # One with a wrong key, one without any: without this option an open connection of another test would serve.
    done = fleet.ansible("host1:host2", "-m", "ping", "--ssh-extra-args=-o ControlPath=none", inventory=tmp_path / "inventory.yml")
    assert done.stdout.count("UNREACHABLE!") == 2, done.stdout + done.stderr
    assert done.stdout.count("Host key verification failed") >= 2


def test_hosts_differ(fleet: Fleet) -> None:
    """They come from one image, and must not have its keys and its identity."""
    keys = {fleet.ssh(host, "cat /etc/ssh/ssh_host_*.pub").stdout.split()[1] for host in HOSTS}
    assert keys == {line.split()[2] for line in (fleet.home / "known_hosts").read_text().splitlines()}
    machines = {fleet.ssh(host, "cat /etc/machine-id").stdout for host in HOSTS}
    assert len(keys) == len(machines) == len(HOSTS)


@pytest.mark.parametrize("host", HOSTS)
def test_names_resolve_between_hosts(fleet: Fleet, host: str) -> None:
    addresses = fleet.addresses()
    for other in HOSTS:
        assert addresses[other] in fleet.ssh(host, f"getent ahostsv4 {other}").stdout
        # What answers there is the other's SSH.
        assert "SSH-2.0" in fleet.ssh(host, f"timeout 5 bash -c 'head -1 </dev/tcp/{other}/22'").stdout
    assert fleet.ssh(host, "getent ahostsv4 nobody9", sure=False).returncode == 2


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_a_unit_starts_and_stops_and_its_journal_is_readable(fleet: Fleet, host: str) -> None:
    # With the settings that a hardened service has, which need more of the container than a bare one.
    unit = """[Service]
ExecStartPre=/bin/echo here I am
ExecStart=/bin/sleep infinity
DynamicUser=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
SystemCallFilter=@system-service
"""
    fleet.ssh(host, f"sudo tee /etc/systemd/system/probe.service <<'END'\n{unit}END\nsudo systemctl daemon-reload")
    assert fleet.ssh(host, "systemctl is-active probe", sure=False).stdout == "inactive\n"
    fleet.ssh(host, "sudo systemctl start probe")
    assert fleet.ssh(host, "systemctl is-active probe").stdout == "active\n"
    assert fleet.ssh(host, "sudo journalctl --sync && sudo journalctl --unit probe --output cat --grep 'here I am'").stdout == "here I am\n"
    fleet.ssh(host, "sudo systemctl stop probe")
    assert fleet.ssh(host, "systemctl is-active probe", sure=False).stdout == "inactive\n"


def test_only_an_offline_host_has_no_way_to_the_mirror(fleet: Fleet) -> None:
    resolved = subprocess.run(["getent", "ahostsv4", MIRROR], capture_output=True, text=True, check=True).stdout
    # By name, and by address: it is the way that has to be missing, not the resolver's answer.
    for target in (MIRROR, resolved.split()[0]):
        attempt = f"timeout 10 bash -c ': </dev/tcp/{target}/80'"
        assert fleet.ssh("host1", attempt).returncode == 0
        assert fleet.ssh("offline1", attempt, sure=False).returncode != 0
    # Nor has it one that someone could find by asking this machine to pass things on.
    gateway = fleet.addresses()["offline1"].rsplit(".", 1)[0] + ".1"
    fleet.ssh("offline1", f"sudo ip route add default via {gateway}")
    assert fleet.ssh("offline1", attempt, sure=False).returncode != 0
    fleet.ssh("offline1", "sudo ip route del default")


def test_a_file_is_brought_to_an_offline_host(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(bytes(range(256)))
    done = fleet.ansible("offline1", "-m", "copy", "-a", f"src={tmp_path}/wheel dest=wheel")
    assert "offline1 | CHANGED" in done.stdout, done.stdout + done.stderr
    assert fleet.ssh("offline1", "stat --format %s wheel; rm wheel").stdout == "256\n"


def test_a_host_that_reboots_comes_back_with_its_files(fleet: Fleet) -> None:
    before = fleet.ssh("host2", "sudo touch /root/kept; systemctl show --property UserspaceTimestampMonotonic").stdout
    fleet.ssh("host2", "sudo systemctl reboot", sure=False)
    # hosts-up waits until it is there.
    fleet.hosts("up", "--hosts", "2", "--debian", "bookworm,trixie", "--offline", "1")
    after = fleet.ssh("host2", "sudo test -e /root/kept && systemctl show --property UserspaceTimestampMonotonic").stdout
    assert before != after


def started(fleet: Fleet) -> dict[str, str]:
    return {host: fleet.ssh(host, "stat --format %Y /proc/1; cat /etc/machine-id").stdout for host in fleet.addresses()}


def test_hosts_up_twice_changes_nothing(fleet: Fleet) -> None:
    before, text = started(fleet), fleet.inventory.read_text()
    said = fleet.hosts("up", "--hosts", "2", "--debian", "bookworm,trixie", "--offline", "1")
    assert not re.search("^(Building|Importing|Starting|Removing|Installing)", said, re.MULTILINE), said
    assert fleet.inventory.read_text() == text
    assert started(fleet) == before


@pytest.mark.parametrize("wrong", [["--hosts", "101"], ["--debian", "sarge"], ["--debian", ""], ["--offline", "-1"]])
def test_wrong_wishes_change_nothing(fleet: Fleet, wrong: list[str]) -> None:
    text = fleet.inventory.read_text()
    assert "Traceback" not in fleet.hosts("up", *wrong, fails=True)
    assert fleet.inventory.read_text() == text


@pytest.fixture
def another(tmp_path: Path, fleet: Fleet) -> Iterator[Fleet]:
    """Another checkout on the same machine, under a path that is not an easy one. It deletes its images, so it has some of its own."""
    checkout = tmp_path / "another checkout"
    for folder in ("tools", "tests/fleet"):
        shutil.copytree(fleet.checkout / folder, checkout / folder)
    shutil.copytree(fleet.images, checkout / "images", ignore=shutil.ignore_patterns("trixie*", "store"))
    other = Fleet(checkout, checkout / ".build/hosts", checkout / "images")
    try:
        yield other
    finally:
        other.hosts("down")


def traces(name: str, networks: set[str]) -> dict[str, list[str]]:
    """What there is on this machine of hosts with this name and of their networks."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    groups = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    processes = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        # A process may end while it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            processes += [str(process)] if name.encode() in process.read_bytes() else []
    links = subprocess.run(["ip", "-4", "-oneline", "address"], capture_output=True, text=True, check=True).stdout.splitlines()
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        "mounts": [line for line in mounts if name in line],
        "files": [str(path) for path in Path("/run").glob(f"{name}*")],
        "groups": [str(path) for root in groups for path in Path(root).glob(f"{name}*")],
        "processes": processes,
        "links": [line for line in links if any(network in line for network in networks)],
        "rules": [line for line in rules if any(network in line for network in networks)],
    }


# What crun says when a container ends between its look at it and its signal. That window cannot be hit on purpose.
LATE_CRUN = """#!/bin/sh
if [ "$1 $2" = "delete --force" ] && mkdir "{folder}/failed" 2>"{folder}/again"; then
  echo 'open pidfd: No such file or directory' >&2
  exit 1
fi
exec "{folder}/crun" "$@"
"""


def fail_a_removal(room: str, folder: Path) -> None:
    """Let crun fail the first time that it is to delete a container of these hosts, and of no others."""
    shutil.copy2("/usr/bin/crun", folder / "crun")
    (folder / "late").write_text(LATE_CRUN.format(folder=folder))
    (folder / "late").chmod(0o755)
    bind = ["mount", "--bind", str(folder / "late"), "/usr/bin/crun"]
    subprocess.run(["nsenter", f"--mount=/run/{room}/namespace", *bind], check=True)


def test_two_checkouts_do_not_collide_and_hosts_down_leaves_nothing(fleet: Fleet, another: Fleet, tmp_path: Path) -> None:
    before = started(fleet)
    another.hosts("up", "--hosts", "1", "--offline", "1")
    others = another.addresses()
    assert set(others) == {"host1", "offline1"}
    assert set(fleet.addresses().values()).isdisjoint(others.values())
    assert set(before.values()).isdisjoint(started(another).values())
    found = re.search(r"/run/(keyfleet-[0-9a-f]{10})", another.inventory.read_text())
    assert found
    name = found[1]
    routes = another.ssh("host1", "ip -4 route show scope link").stdout
    networks = {line.split("0/24")[0] for line in routes.splitlines()}
    assert len(networks) == 2
    here = traces(name, networks)
    assert all(here.values()), here
    # crun's own state is within the namespace, which takes it away.
    states = [path.read_text() for path in Path("/run/crun").glob("*/status")]
    assert not any(name in state for state in states), states

    # More, then fewer: the first one stays what it was.
    kept = started(another)["host1"]
    another.hosts("up", "--hosts", "2")
    assert set(another.addresses()) == {"host1", "host2"}
    another.hosts("up", "--hosts", "1")
    assert started(another) == {"host1": kept}

    fail_a_removal(name, tmp_path)
    another.hosts("down")
    assert (tmp_path / "failed").is_dir()
    assert not any(traces(name, networks).values()), traces(name, networks)
    assert sorted(path.name for path in another.home.iterdir()) == ["lock", "storage"]
    assert started(fleet) == before
    # Once more, with nothing to take down; and with the images.
    another.hosts("down")
    another.hosts("down", "--images")
    assert sorted(path.name for path in another.home.iterdir()) == ["lock"]
    assert not another.images.exists()
    assert not any(traces(name, networks).values()), traces(name, networks)
