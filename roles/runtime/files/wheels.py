# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose from a folder of wheels those that a target needs.

Run on the controller by Ansible's Python, which has the library packaging. The first argument is JSON: ``wheelhouse``,
``requirements`` (those that are not met), ``installed`` (versions by name), ``host`` (what host.py told), ``list`` (the file with
all requirements) and ``listed`` (what is in it). With
``--pack`` as the second, the wheels are packed into one file, which travels faster than many. Prints JSON: ``problem`` (a text for
people, or null) and ``bundle`` (the path of that file, which the caller deletes, or null).
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from email.message import Message
from email.parser import Parser
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

# glibc's versions that wheels are built for. pip takes each only by its own name.
COMMON = {17: "manylinux2014", 28: "manylinux_2_28", 34: "manylinux_2_34", 39: "manylinux_2_39"}
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


class Unusable(Exception):
    """A text for people."""


class Target:
    """What wheels have to fit: the Python and the platform of the host."""

    def __init__(self, host: Mapping[str, Any]) -> None:
        self.python: tuple[int, ...] = tuple(host["python"][:2])
        self.version = ".".join(map(str, host["python"]))
        self.machine: str = host["machine"]
        self.libc: str = host["libc"]
        name, _blank, version = self.libc.partition(" ")
        # No number of glibc: it is another C library, or an old one, and no wheel with compiled parts fits.
        self.glibc = int(version.split(".")[1]) if name == "glibc" and version.startswith("2.") else 0
        platforms = []
        for number in range(self.glibc, 4, -1):
            platforms.append(f"manylinux_2_{number}_{self.machine}")
            platforms += [f"{OLD_NAMES[number]}_{self.machine}"] if number in OLD_NAMES else []
        platforms.append(f"linux_{self.machine}")
        short = "cp{}{}".format(*self.python)
        abi = short + ("t" if host["free_threaded"] else "")
        tags = [*cpython_tags(self.python, [abi], platforms), *compatible_tags(self.python, short, platforms)]
        self.rank = {tag: place for place, tag in enumerate(tags)}
        self.environment = {
            "implementation_name": "cpython",
            "implementation_version": self.version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.version,
            "python_version": "{}.{}".format(*self.python),
            "sys_platform": "linux",
        }

    def wants(self, requirement: Requirement, extras: frozenset[str]) -> bool:
        marker = requirement.marker
        return marker is None or any(marker.evaluate({**self.environment, "extra": extra}) for extra in extras or {""})

    def platforms(self) -> list[str]:
        """For people and for pip: the platforms that cover nearly all wheels for this host."""
        return [f"{name}_{self.machine}" for number, name in sorted(COMMON.items(), reverse=True) if number <= self.glibc]


class Wheel:
    def __init__(self, folder: str, file: str) -> None:
        self.file = file
        self.path = os.path.join(folder, file)
        self.name, self.version, _build, self.tags = parse_wheel_filename(file)

    def rank(self, target: Target) -> int | None:
        return min((target.rank[tag] for tag in self.tags if tag in target.rank), default=None)

    def metadata(self) -> Message:
        try:
            with zipfile.ZipFile(self.path) as archive:
                name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1)
                return Parser().parsestr(archive.read(name).decode(), headersonly=True)
        except (OSError, StopIteration, zipfile.BadZipFile) as error:
            raise Unusable(f"{self.path} cannot be read: {error or 'it is no wheel'}") from error


class Wheelhouse:
    def __init__(self, folder: str, target: Target) -> None:
        self.folder = folder
        self.target = target
        self.wheels: dict[NormalizedName, list[Wheel]] = {}
        for file in sorted(os.listdir(folder)):
            if file.endswith(".whl"):
                try:
                    wheel = Wheel(folder, file)
                except InvalidWheelFilename:
                    continue
                self.wheels.setdefault(wheel.name, []).append(wheel)

    def best(self, name: NormalizedName, specifier: SpecifierSet) -> tuple[Wheel, Message] | None:
        """The newest wheel that fits, as pip would choose it, and its metadata."""
        fitting: dict[Version, tuple[int, Wheel]] = {}
        for wheel in self.wheels.get(name, []):
            rank = wheel.rank(self.target)
            if rank is not None and (wheel.version not in fitting or rank < fitting[wheel.version][0]):
                fitting[wheel.version] = (rank, wheel)
        for version in sorted(specifier.filter(fitting), reverse=True):
            wheel = fitting[version][1]
            metadata = wheel.metadata()
            if SpecifierSet(metadata.get("Requires-Python", "")).contains(self.target.version, prereleases=True):
                return wheel, metadata
        return None

    def choose(self, requirements: Sequence[str], installed: Mapping[str, str]) -> tuple[list[str], dict[NormalizedName, str]]:
        """Names of wheels, and requirements that none meets. What is installed and good enough needs no wheel."""
        have = {canonicalize_name(name): Version(version) for name, version in installed.items()}
        limits: dict[NormalizedName, SpecifierSet] = {}
        while True:
            before = dict(limits)
            chosen: dict[NormalizedName, str] = {}
            lacking: dict[NormalizedName, str] = {}
            wanted: list[tuple[str, frozenset[str]]] = [(text, frozenset()) for text in requirements]
            seen: set[tuple[str, frozenset[str]]] = set()
            while wanted:
                text, extras = wanted.pop(0)
                requirement = Requirement(text)
                if (text, extras) in seen or not self.target.wants(requirement, extras):
                    continue
                seen.add((text, extras))
                name = canonicalize_name(requirement.name)
                limits[name] = limits.get(name, SpecifierSet()) & requirement.specifier
                if name in have and limits[name].contains(have[name], prereleases=True):
                    continue
                found = self.best(name, limits[name])
                if found is None:
                    lacking[name] = f"{requirement.name}{limits[name]}"
                else:
                    wheel, metadata = found
                    chosen[name] = wheel.file
                    wanted += [(needed, frozenset(requirement.extras)) for needed in metadata.get_all("Requires-Dist", [])]
            # A limit that was met late may speak against an early choice.
            if limits == before:
                return sorted(chosen.values()), lacking


def problem(asked: Mapping[str, Any], target: Target, house: Wheelhouse, lacking: Mapping[NormalizedName, str]) -> str:
    """What is not there, what is instead, and the command that fetches it."""
    parts = []
    for name, requirement in sorted(lacking.items()):
        others = ", ".join(wheel.file for wheel in house.wheels.get(name, []))
        parts.append(f"{requirement} ({'there is only ' + others if others else 'there is none'})")
    listed = [Requirement(text) for text in asked["listed"]]
    unconditional = {canonicalize_name(requirement.name) for requirement in listed if requirement.marker is None}
    command = ["pip", "download", "--only-binary=:all:", "--dest", house.folder, "--python-version", "{}.{}".format(*target.python)]
    for platform in target.platforms():
        command += ["--platform", platform]
    command += ["-r", asked["list"]]
    # pip judges conditions by the Python that it runs on, not by the one that it fetches for.
    command += [requirement for name, requirement in sorted(lacking.items()) if name not in unconditional]
    return (
        f"runtime_wheelhouse: {house.folder} has no wheel that Python {target.version} on {target.machine} with "
        f"{target.libc or 'an unknown C library'} can install for {'; '.join(parts)}. "
        f"Fetch it where there is a network: {shlex.join(command)}"
    )


def pack(folder: str, wheels: Sequence[str]) -> str:
    """The path of a new archive of these wheels."""
    with tempfile.NamedTemporaryFile(prefix="keyfleet-wheels-", suffix=".tar", delete=False) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for wheel in wheels:
                entry = tarfile.TarInfo(wheel)
                entry.mode = 0o644
                entry.size = os.path.getsize(os.path.join(folder, wheel))
                with open(os.path.join(folder, wheel), "rb") as content:
                    archive.addfile(entry, content)
        return file.name


def main(asked: Mapping[str, Any], packing: bool) -> None:
    target = Target(asked["host"])
    answer: dict[str, Any] = {"bundle": None, "problem": None}
    try:
        house = Wheelhouse(asked["wheelhouse"], target)
        wheels, lacking = house.choose(asked["requirements"], asked["installed"])
        if lacking:
            answer["problem"] = problem(asked, target, house, lacking)
        elif packing:
            answer["bundle"] = pack(asked["wheelhouse"], wheels)
    except (OSError, InvalidRequirement, Unusable) as error:
        answer["problem"] = f"runtime_wheelhouse: {error}"
    print(json.dumps(answer))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:] == ["--pack"])
