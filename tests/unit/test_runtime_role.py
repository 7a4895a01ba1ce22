# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs of role runtime: which wheels a target needs, and what a host and its virtual environment really have."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles/runtime/files"
DEBIAN_12 = {"python": [3, 11, 2], "free_threaded": False, "machine": "x86_64", "libc": "glibc 2.36"}
DEBIAN_13 = {**DEBIAN_12, "python": [3, 13, 5], "libc": "glibc 2.41"}
UBUNTU_22 = {**DEBIAN_12, "python": [3, 10, 12], "libc": "glibc 2.35"}


def ask(program: str, *arguments: str, python: str = sys.executable, scratch: Path | None = None) -> Any:
    """As the role runs it."""
    command = [python, "-I", "-", *arguments]
    environment = {**os.environ, "TMPDIR": str(scratch)} if scratch else None
    done = subprocess.run(command, input=(FILES / program).read_text(), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wheel(folder: Path, file: str, *requires: str, python: str = "") -> None:
    name, version = file.split("-")[:2]
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    lines += [f"Requires-Python: {python}"] if python else []
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\nWords.\n")


def choose(folder: Path, host: dict[str, Any], *requirements: str, installed: dict[str, str] | None = None) -> tuple[list[str], str | None]:
    """The wheels that are packed for this host, and the problem."""
    asked = {"wheelhouse": str(folder), "list": "list.txt", "listed": requirements, "requirements": requirements}
    answer = ask("wheels.py", json.dumps({**asked, "installed": installed or {}, "host": host}), "--pack", scratch=folder.parent)
    if answer["bundle"] is None:
        return [], answer["problem"]
    bundle = Path(answer["bundle"])
    with tarfile.open(bundle) as archive:
        members = archive.getmembers()
        assert all(member.mode == 0o644 and member.uid == member.gid == 0 for member in members)
        for member in members:
            content = archive.extractfile(member)
            assert content and content.read() == (folder / member.name).read_bytes()
    return [member.name for member in members], answer["problem"]


def test_the_newest_wheel_for_this_python_and_platform_is_taken(tmp_path: Path) -> None:
    for file in (
        "lib-1.9-py3-none-any.whl",
        "lib-1.10-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "lib-1.10-cp313-cp313-manylinux_2_28_x86_64.whl",
        "lib-1.11-cp311-cp311-manylinux_2_39_x86_64.whl",
        "lib-1.11-cp311-cp311-musllinux_1_2_x86_64.whl",
        "lib-1.11-cp311-cp311-manylinux_2_28_aarch64.whl",
        "lib-1.11-cp312-abi3-manylinux_2_28_x86_64.whl",
        "lib-1.12rc1-py3-none-any.whl",
        "lib-2.0-py3-none-any.whl",
    ):
        wheel(tmp_path, file)
    (tmp_path / "notes.txt").write_text("not a wheel")
    (tmp_path / "odd.whl").write_text("not a name of one")
    assert choose(tmp_path, DEBIAN_12, "lib<2") == (["lib-1.10-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"], None)
    assert choose(tmp_path, DEBIAN_13, "lib<2") == (["lib-1.11-cp312-abi3-manylinux_2_28_x86_64.whl"], None)
    assert choose(tmp_path, {**DEBIAN_12, "machine": "aarch64"}, "lib<2") == (["lib-1.11-cp311-cp311-manylinux_2_28_aarch64.whl"], None)
    # Without the GIL neither the ordinary builds nor those with the stable interface will do.
    assert choose(tmp_path, {**DEBIAN_13, "free_threaded": True}, "lib<2") == (["lib-1.9-py3-none-any.whl"], None)
    assert choose(tmp_path, {**DEBIAN_12, "libc": ""}, "lib<2") == (["lib-1.9-py3-none-any.whl"], None)
    assert choose(tmp_path, DEBIAN_12, "lib==1.12rc1") == (["lib-1.12rc1-py3-none-any.whl"], None)


def test_what_a_library_needs_comes_with_it_by_the_conditions_of_the_target(tmp_path: Path) -> None:
    conditions = ('Old_Only>=1 ; python_full_version < "3.11"', 'spare ; extra == "more"', 'windows ; sys_platform == "win32"')
    wheel(tmp_path, "lib-1.0-py3-none-any.whl", "deep", *conditions)
    wheel(tmp_path, "deep-1.0-py3-none-any.whl")
    wheel(tmp_path, "old_only-1.0-py3-none-any.whl")
    wheel(tmp_path, "spare-1.0-py3-none-any.whl")
    both = ["deep-1.0-py3-none-any.whl", "lib-1.0-py3-none-any.whl"]
    assert choose(tmp_path, DEBIAN_13, "lib") == (both, None)
    assert choose(tmp_path, UBUNTU_22, "lib") == ([*both, "old_only-1.0-py3-none-any.whl"], None)
    assert choose(tmp_path, DEBIAN_13, "lib[more]") == ([*both, "spare-1.0-py3-none-any.whl"], None)
    assert choose(tmp_path, DEBIAN_13, 'lib; python_version < "3.11"') == ([], None)


def test_a_limit_that_comes_late_and_a_library_for_another_python_are_heeded(tmp_path: Path) -> None:
    wheel(tmp_path, "first-1.0-py3-none-any.whl", "shared")
    wheel(tmp_path, "second-1.0-py3-none-any.whl", "shared<2")
    wheel(tmp_path, "shared-1.0-py3-none-any.whl")
    wheel(tmp_path, "shared-1.5-py3-none-any.whl", python=">=3.12")
    wheel(tmp_path, "shared-2.0-py3-none-any.whl", "nowhere")
    chosen = ["first-1.0-py3-none-any.whl", "second-1.0-py3-none-any.whl", "shared-1.0-py3-none-any.whl"]
    assert choose(tmp_path, DEBIAN_12, "first", "second") == (chosen, None)


def test_what_is_installed_and_good_enough_needs_no_wheel(tmp_path: Path) -> None:
    wheel(tmp_path, "lib-2.0-py3-none-any.whl", "deep>=2")
    wheel(tmp_path, "deep-3.0-py3-none-any.whl")
    assert choose(tmp_path, DEBIAN_12, "lib>=2", installed={"Lib": "1.0", "deep": "2.1"}) == (["lib-2.0-py3-none-any.whl"], None)
    both = ["deep-3.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl"]
    assert choose(tmp_path, DEBIAN_12, "lib>=2", installed={"lib": "1.0", "deep": "1.9"}) == (both, None)


def test_what_is_lacking_is_told_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    wheel(tmp_path, "lib-1.0-cp313-cp313-manylinux_2_28_x86_64.whl")
    wheel(tmp_path, "other-1.0-py3-none-any.whl", 'old_only>=1 ; python_version < "3.11"')
    chosen, problem = choose(tmp_path, UBUNTU_22, "lib>=1", "other", 'tomli>=2; python_version < "3.11"', "gone>=1,<3")
    assert chosen == []
    assert problem == (
        f"runtime_wheelhouse: {tmp_path} has no wheel that Python 3.10.12 on x86_64 with glibc 2.35 can install for "
        "gone<3,>=1 (there is none); lib>=1 (there is only lib-1.0-cp313-cp313-manylinux_2_28_x86_64.whl); old_only>=1 (there is none); "
        "tomli>=2 (there is none). Fetch it where there is a network: "
        f"pip download --only-binary=:all: --dest {tmp_path} --python-version 3.10 --platform manylinux_2_34_x86_64 "
        "--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -r list.txt 'old_only>=1' 'tomli>=2'"
    )


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib-1.0-py3-none-any.whl").write_text("torn")
    assert choose(tmp_path, DEBIAN_12, "lib") == (
        [],
        f"runtime_wheelhouse: {tmp_path}/lib-1.0-py3-none-any.whl cannot be read: File is not a zip file",
    )
    assert "No such file" in str(choose(tmp_path / "nowhere", DEBIAN_12, "lib")[1])


def test_a_host_is_looked_at_without_a_change(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").touch()
    (tmp_path / "file").touch()
    (tmp_path / "mine.conf").write_text("a\n")
    wanted = {"folders": {"/": "0755", "/nowhere": "0755"}, "files": {str(tmp_path / "mine.conf"): "b\n", str(tmp_path / "none"): "c\n"}}

    def told(name: str) -> Any:
        return ask("host.py", str(tmp_path / name), json.dumps(wanted), python=sys._base_executable)

    states = {name: told(name)["state"] for name in ("none", "empty", "full", "file", "link")}
    assert states == {"none": "absent", "empty": "ours", "full": "foreign", "file": "foreign", "link": "foreign"}
    facts = told("none")
    assert facts["python"] == list(sys.version_info[:3]) and facts["without_pip"] is None
    assert facts["differs"] == ["/nowhere", *wanted["files"]]
    (tmp_path / "full/.keyfleet-runtime").touch()
    (tmp_path / "full/scratch").mkdir()
    left = told("full")
    assert (left["state"], left["damage"]) == ("ours", "a run was interrupted")
    (tmp_path / "full/scratch").rmdir()
    assert told("full")["damage"] == "it was not finished"
    (tmp_path / "full/pyvenv.cfg").write_text("version = 3.9.1\n")
    assert "it was made by Python 3.9, and" in told("full")["damage"]


def test_the_libraries_of_this_python_are_seen_as_they_are() -> None:
    listed = [line for line in (FILES / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    answer = ask("libraries.py", json.dumps([*listed, "pytest>=999", "nowhere>=1", 'nowhere ; python_version < "3"']))
    assert answer["missing"] == ["pytest>=999", "nowhere>=1"]
    assert answer["installed"]["python-pkcs11"] == metadata.version("python-pkcs11")
    assert answer["damage"] is None
    assert ask("libraries.py", json.dumps(listed))["missing"] == []


@pytest.fixture
def libraries() -> ModuleType:
    spec = importlib.util.spec_from_file_location("libraries", FILES / "libraries.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_that_are_gone_or_shortened_are_found(tmp_path: Path, libraries: ModuleType) -> None:
    folder, info = tmp_path / "lib", tmp_path / "lib-1.0.dist-info"
    folder.mkdir()
    info.mkdir()
    (folder / "__init__.py").write_text("text")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lib\nVersion: 1.0\n")
    digest = hashlib.sha256(b"text").hexdigest()
    record = f"lib/__init__.py,sha256={digest},4\nlib/__pycache__/__init__.pyc,,\nlib-1.0.dist-info/RECORD,,\n"
    (info / "RECORD").write_text(record)

    def damage() -> Any:
        return libraries.damage(str(tmp_path), list(metadata.distributions(path=[str(tmp_path)])))

    assert damage() is None
    (folder / "__init__.py").write_text("tex")
    assert damage() == f"{folder}/__init__.py is 3 bytes long instead of 4"
    (folder / "__init__.py").unlink()
    assert damage() == f"{folder}/__init__.py is gone"
    (info / "RECORD").write_text("")
    assert damage() == f"a library in {tmp_path} was not finished"
    (info / "RECORD").unlink()
    assert damage() == f"a library in {tmp_path} was not finished"
    (tmp_path / "~ib").mkdir()
    assert damage() == f"pip was interrupted: {tmp_path}/~ib"
