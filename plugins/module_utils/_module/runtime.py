# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Find a Python that has what the modules need, and go on there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

# Where the runtime role puts its venv, then interpreters that a distribution may have given the libraries to.
CANDIDATES = (
    "/opt/keyfleet/venv/bin/python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/usr/libexec/platform-python",
)
INSTALL = "pip install python-pkcs11 tomli-w 'cryptography>=42'"
# respawn_module writes all parameters into a pipe before anyone reads it: more than the pipe holds would wait for ever.
_RESPAWN_BYTES = 48 * 1024


def _lacking(module: AnsibleModule, interpreter: str, names: Sequence[str]) -> str | None:
    """Why ``interpreter`` will not do, or None. All names are tried together: one that has only some is no use."""
    code, _out, complaint = module.run_command([interpreter, "-c", "; ".join(f"import {name}" for name in names)])
    if code == 0:
        return None
    return complaint.strip().rpartition("\n")[2] or f"exit {code}"


def _missing(names: Sequence[str]) -> str | None:
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            return str(error)
    return None


def require_python(module: AnsibleModule, names: Sequence[str]) -> None:
    """Return when all of ``names`` can be imported here; otherwise go on in an interpreter where they can, or fail.

    The failure says which interpreters were tried and why each was refused.
    """
    problem = _missing(names)
    if problem is None:
        return
    refused = [f"{sys.executable}: {problem}"]
    if not has_respawned():
        for interpreter in CANDIDATES:
            if not os.path.exists(interpreter) or os.path.realpath(interpreter) == os.path.realpath(sys.executable):
                continue
            lacking = _lacking(module, interpreter, names)
            if lacking is None:
                size = len(module.jsonify(module.params))
                if size <= _RESPAWN_BYTES:
                    respawn_module(interpreter)
                lacking = f"has them, but {size} bytes of parameters are too many to hand over; set ansible_python_interpreter to it"
            refused.append(f"{interpreter}: {lacking}")
    module.fail_json(
        msg=f"This module needs the Python libraries {', '.join(names)} on the target. Tried: "
        + "; ".join(refused)
        + f". Install them ({INSTALL}), or set ansible_python_interpreter to a Python that has them.",
        failure={"code": "missing_library", "details": {"tried": refused}},
    )
