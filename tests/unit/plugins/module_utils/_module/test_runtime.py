# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The search for a Python that has the libraries: real interpreters, with libraries in them that are only a name and a version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible
import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import runtime

CHECKOUT = Path(__file__).resolve().parents[5]
ALL = tuple(runtime.LIBRARIES)

# What a module does: it is given arguments, and it needs libraries.
MODULE = """
import sys
from ansible_collections.keyfleet.hsm.plugins.module_utils._module import runtime
from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule

module = GuardedModule({"candidates": {"type": "list", "elements": "str"}, "patience": {"type": "float"}, "ballast": {"type": "str"}})
runtime.PATIENCE = module.params["patience"]
runtime.require_python(module, ["pkcs11", "cryptography.x509.verification", "tomli_w"], module.params["candidates"])
module.exit_json(python=sys.executable, size=len(module.params["ballast"]), loaded=sorted(sys.modules))
"""

PKCS11 = {"python_pkcs11-0.10.0": "", "pkcs11/__init__.py": "EncapsulateMixin = object"}
OLD_PKCS11 = {"python_pkcs11-0.9.5": "", "pkcs11/__init__.py": ""}
CRYPTOGRAPHY = {
    "cryptography-42.0.0": "",
    "cryptography/__init__.py": "",
    "cryptography/x509/__init__.py": "",
    "cryptography/x509/verification.py": "PolicyBuilder = object",
}
OLD_CRYPTOGRAPHY = {"cryptography-41.0.7": "", "cryptography/__init__.py": "", "cryptography/x509/__init__.py": ""}
BROKEN_CRYPTOGRAPHY = {**CRYPTOGRAPHY, "cryptography/x509/__init__.py": "import _cffi_backend"}
# What a library in Rust raises is derived from BaseException.
PANIC = {**CRYPTOGRAPHY, "cryptography/x509/__init__.py": "class PanicException(BaseException): pass\nraise PanicException('no API')"}
TOMLI_W = {"tomli_w-1.0.0": "", "tomli_w.py": "dumps = str"}
GOOD = {**PKCS11, **CRYPTOGRAPHY, **TOMLI_W}
# No sitecustomize.py: Debian's Python has one of its own.
OLD_PYTHON = {**GOOD, "old.pth": "import sys; sys.version_info = (3, 9, 18, 'final', 0)"}

Make = Callable[[str, dict[str, str]], str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A virtual environment with these files in it; a name with a version stands for what pip leaves beside a library."""

    def made(name: str, files: dict[str, str]) -> str:
        folder = tmp_path / name
        subprocess.run([sys._base_executable, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for file, text in files.items():
            path = site / file
            if path.suffix not in (".py", ".pth"):
                library, version = file.split("-")
                path = site / f"{file}.dist-info" / "METADATA"
                text = f"Metadata-Version: 2.1\nName: {library.replace('_', '-')}\nVersion: {version}\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(folder / "bin/python")

    return made


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the module above says, run as a process of its own by this interpreter, which brings no library but Ansible's."""
    (tmp_path / "needy.py").write_text(MODULE)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/ansible").symlink_to(Path(ansible.__file__).parent)

    def run(interpreter: str, *candidates: str, patience: float = 20) -> dict[str, Any]:
        arguments = {"candidates": candidates, "patience": patience, "ballast": ""}
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{os.environ['ANSIBLE_COLLECTIONS_PATH']}"}
        done = subprocess.run(
            [interpreter, str(tmp_path / "needy.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The same, as Ansible itself runs a module: only so can it go on elsewhere."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "needy.py").write_text(MODULE)

    def run(interpreter: str, *candidates: str, ballast: str = "") -> dict[str, Any]:
        environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_LIBRARY": str(library), "ANSIBLE_NOCOLOR": "1"}
        arguments = json.dumps({"candidates": candidates, "patience": 20, "ballast": ballast})
        command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "needy", "-a", arguments]
        command += ["-e", f"ansible_python_interpreter={interpreter}"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        found = re.search(r"^localhost \| \S+ => (\{.*^\})", done.stdout, re.MULTILINE | re.DOTALL)
        assert found, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(found[1])
        return told

    return run


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_the_names_are_those_of_the_libraries_that_are_really_installed() -> None:
    assert runtime.lacking(runtime.wanted(ALL)) is None


def test_the_first_versions_are_those_of_the_list_that_the_role_installs() -> None:
    lines = (CHECKOUT / "roles/runtime/files/requirements.txt").read_text().splitlines()
    found = dict(re.findall(r"^([\w-]+)>=([\d.]+)[^;\n]*$", "\n".join(lines), re.MULTILINE))
    assert {library: least for library, least, _new in runtime.LIBRARIES.values()} == found


def test_where_the_libraries_are_nothing_is_started_and_nothing_more_is_imported(make: Make, answer: Any, tmp_path: Path) -> None:
    python = make("good", GOOD)
    traitor = script(tmp_path / "python", f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    told = answer(python, traitor)
    assert told["python"] == python
    assert not (tmp_path / "started").exists()
    assert not {"importlib.metadata", "subprocess.run"} & set(told["loaded"])


def test_every_interpreter_is_named_with_what_is_wrong_with_it(make: Make, answer: Any, tmp_path: Path) -> None:
    bare = make("bare", {})
    closed = tmp_path / "closed"
    closed.write_text("")
    cases = {
        make("some", PKCS11): "No module named 'cryptography'",
        make("old-pkcs11", {**OLD_PKCS11, **CRYPTOGRAPHY, **TOMLI_W}): "python-pkcs11 0.9.5 is too old, 0.10 or later is needed",
        make("old-cryptography", {**PKCS11, **OLD_CRYPTOGRAPHY, **TOMLI_W}): "cryptography 41.0.7 is too old, 42 or later is needed",
        make("broken", {**PKCS11, **BROKEN_CRYPTOGRAPHY, **TOMLI_W}): (
            "cryptography 42.0.0 cannot be imported: ModuleNotFoundError: No module named '_cffi_backend'"
        ),
        make("panic", {**PKCS11, **PANIC, **TOMLI_W}): "cryptography 42.0.0 cannot be imported: PanicException: no API",
        make("nameless", {"pkcs11/__init__.py": ""}): "pkcs11 is there, and python-pkcs11 is not",
        make("old-python", OLD_PYTHON): "is Python 3.9.18, and 3.10 or later is needed",
        str(tmp_path / "nowhere"): "is not there",
        str(closed): "cannot be run: Permission denied",
        script(tmp_path / "text", "no program"): "cannot be run: Exec format error",
        script(tmp_path / "silent", "#!/bin/sh\n"): "is no Python that works (exit 0)",
        script(tmp_path / "failing", "#!/bin/sh\necho first >&2\necho last words >&2\nexit 3\n"): "last words",
        # The sleep is a process of its own, which keeps the script's output open when the script is ended.
        script(tmp_path / "hanging", "#!/bin/sh\nsleep 60\n"): "gave no answer in 2 s",
    }
    started = time.monotonic()
    told = answer(bare, *cases, patience=2)
    assert time.monotonic() - started < 30
    assert told["failed"] and told["failure"]["code"] == "missing_library"
    expected = [f"{bare}: No module named 'pkcs11'", *(f"{python}: {reason}" for python, reason in cases.items())]
    assert told["failure"]["details"]["tried"] == expected
    assert "; ".join(expected) in told["failure"]["details"].get("message", told["msg"])
    assert "python-pkcs11 0.10 or later, cryptography 42 or later, tomli-w 1.0 or later" in told["msg"]
    assert "keyfleet.hsm.runtime" in told["msg"] and "ansible_python_interpreter" in told["msg"]


# As much as is handed over, in characters that take the most room in the pipe. The rest is for the other parameters.
ROOM = runtime._MOST_BYTES - 1500


@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f600", '"'])
def test_a_module_goes_on_where_the_libraries_are(make: Make, play: Any, letter: str) -> None:
    """Both virtual environments are made by one Python, so both have the same program."""
    bare, some, good = make("bare", {}), make("some", PKCS11), make("good", GOOD)
    size = ROOM // len(repr(json.dumps(letter))[2:-2])
    told = play(bare, some, good, ballast=f"{{{{ '{letter}' * {size} }}}}")
    assert (told.get("python"), told.get("size")) == (good, size), told


def test_more_than_can_be_handed_over_is_refused_with_the_interpreter_that_would_do(make: Make, play: Any) -> None:
    bare, good = make("bare", {}), make("good", GOOD)
    told = play(bare, good, ballast=f"{{{{ 'a' * {runtime._MOST_BYTES} }}}}")
    assert told["failure"]["code"] == "parameters_too_large"
    assert told["failure"]["details"] == {"bytes": pytest.approx(runtime._MOST_BYTES, abs=2000), "interpreter": good}
    assert f"Set ansible_python_interpreter to {good}, under vars of this task" in told["msg"]
    # And so it goes.
    assert play(good, bare, ballast=f"{{{{ 'a' * {runtime._MOST_BYTES} }}}}")["python"] == good


def test_each_interpreter_is_tried_once(make: Make, tmp_path: Path) -> None:
    one, other = make("one", {}), make("other", {})
    (tmp_path / "link").symlink_to(tmp_path / "one")
    names = [sys.executable, one, other, one, str(tmp_path / "link/bin/python"), f"{other}3", str(tmp_path / "nowhere/python")]
    assert list(runtime.others(names)) == [one, other, str(tmp_path / "nowhere/python")]
