# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Find a Python that has what the modules need, and go on there."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ansible.module_utils.common import respawn

from .guarded import GuardedModule

# Where the runtime role puts its venv, then interpreters that a distribution may have given the libraries to.
CANDIDATES = ("/opt/keyfleet/venv/bin/python", "/usr/bin/python3", "/usr/local/bin/python3")
INSTALL = "pip install python-pkcs11 tomli-w PyYAML 'cryptography>=42'"

# What is imported: the library that brings it, the first version that is enough, and a name that is new in that version. To look
# for the name costs nothing, and to ask for the version costs more than the import.
LIBRARIES = {
    "pkcs11": ("python-pkcs11", "0.10", "EncapsulateMixin"),
    "cryptography.x509.verification": ("cryptography", "42", "PolicyBuilder"),
    "tomli_w": ("tomli-w", "1.0", "dumps"),
    "yaml": ("PyYAML", "5.1", "full_load"),
}
Wanted = Sequence[tuple[str, str, str, str]]

# Run in another interpreter, with the source of lacking() and what is wanted as its arguments. Nothing printed is no answer.
_PROBE = """
import sys
if sys.version_info < (3, 10):
    sys.exit("is Python " + ".".join(map(str, sys.version_info[:3])) + ", and 3.10 or later is needed")
exec("from __future__ import annotations\\n" + sys.argv[1])
reason = lacking([tuple(words.split()) for words in sys.argv[2:]])
sys.exit(reason) if reason else print("good")
"""
# Seconds that an interpreter has for its answer. It takes less than one where nothing is wrong.
PATIENCE = 20.0
# respawn_module writes all parameters into a pipe before anyone reads it: more than the pipe holds (64 KiB) would wait for ever. The
# rest is for the program around them.
_MOST_BYTES = 48 * 1024


def lacking(wanted: Wanted) -> str | None:
    """Why this interpreter will not do, or None. Whole in itself, since other interpreters are given its source."""
    import importlib

    for module, library, least, new in wanted:
        problem: BaseException | None = None
        try:
            if hasattr(importlib.import_module(module), new):
                continue
        except BaseException as error:  # pylint: disable=broad-exception-caught
            # What a library written in Rust raises when it cannot start is no Exception.
            problem = error
        from importlib import metadata

        try:
            version = metadata.version(library)
        except metadata.PackageNotFoundError:
            return str(problem or f"{module} is there, and {library} is not")
        # A part of the library that came later is not there: that is its age. Anything else that is missing is a fault.
        if problem is None or getattr(problem, "name", None) == module:
            return f"{library} {version} is too old, {least} or later is needed"
        return f"{library} {version} cannot be imported: {type(problem).__name__}: {problem}"
    return None


def wanted(names: Sequence[str]) -> Wanted:
    return [(name, *LIBRARIES[name]) for name in names]


def identity(interpreter: str) -> tuple[str, str]:
    """What makes an interpreter the same as another one. A venv has the same program as the Python that made it."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))
    venv = os.path.realpath(folder) if os.path.exists(os.path.join(folder, "pyvenv.cfg")) else ""
    return os.path.realpath(interpreter), venv


def refusal(module: GuardedModule, interpreter: str, needed: Wanted) -> str | None:
    """Why ``interpreter`` will not do, or None."""
    if not os.path.exists(interpreter):
        return "is not there"
    killed = threading.Event()
    timers: list[threading.Timer] = []

    def watch(process: Any) -> None:
        def end() -> None:
            killed.set()
            process.kill()

        timers.append(threading.Timer(PATIENCE, end))
        timers[0].start()

    arguments = [interpreter, "-c", _PROBE, inspect.getsource(lacking), *(" ".join(words) for words in needed)]
    try:
        code, out, complaint = module.run_command(
            arguments, handle_exceptions=False, expand_user_and_vars=False, before_communicate_callback=watch
        )
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    finally:
        for timer in timers:
            timer.cancel()
    if killed.is_set():
        return f"gave no answer in {PATIENCE:g} s"
    if code == 0 and out.strip() == "good":
        return None
    return complaint.strip().rpartition("\n")[2] or f"is no Python that works (exit {code})"


def go_on(module: GuardedModule, interpreter: str) -> None:
    """Run this module in ``interpreter`` and end with what it ends with, or fail where the parameters are too many for that."""
    if module.given_bytes > _MOST_BYTES:
        module.fail_json(
            msg=f"{module.given_bytes} bytes of parameters are too many to hand over to another interpreter. Set "
            f"ansible_python_interpreter to {interpreter}, under vars of this task or for the host in the inventory, or give fewer "
            "entries in one task.",
            failure={"code": "parameters_too_large", "details": {"bytes": module.given_bytes, "interpreter": interpreter}},
        )
    respawn.respawn_module(interpreter)


def others(candidates: Sequence[str]) -> Iterator[str]:
    """The candidates that are not this interpreter, each once."""
    seen = {identity(sys.executable)}
    for candidate in candidates:
        if identity(candidate) not in seen:
            seen.add(identity(candidate))
            yield candidate


def require_python(module: GuardedModule, names: Sequence[str], candidates: Sequence[str] = CANDIDATES) -> None:
    """Return when all of ``names`` can be imported here; otherwise go on in an interpreter where they can, or fail.

    The failure says which interpreters were tried and why each was refused.
    """
    needed = wanted(names)
    problem = lacking(needed)
    if problem is None:
        return
    refused = [f"{sys.executable}: {problem}"]
    if not respawn.has_respawned():
        for interpreter in others(candidates):
            reason = refusal(module, interpreter, needed)
            if reason is None:
                go_on(module, interpreter)
            refused.append(f"{interpreter}: {reason}")
    libraries = ", ".join(f"{library} {least} or later" for _name, library, least, _new in needed)
    module.fail_json(
        msg=f"This module needs the Python libraries {libraries} on the target. Role keyfleet.hsm.runtime installs them where all modules "
        f"find them. Or install them ({INSTALL}) and set ansible_python_interpreter to the Python that has them. Tried: "
        + "; ".join(refused)
        + ".",
        failure={"code": "missing_library", "details": {"tried": refused}},
    )
