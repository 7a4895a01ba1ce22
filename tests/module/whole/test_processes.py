# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module once as a program that starts: the other tests fork theirs from a process that has imported all there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import PIN, SOFTHSM, Hsm, Pair, ok

MODULES = sorted(path.stem for path in (Path(__file__).resolve().parents[3] / "plugins" / "modules").glob("*.py"))


def arguments(pair: Pair) -> dict[str, dict[str, Any]]:
    """A call of each module that succeeds on a pair with the key ``signer``."""
    hsm = pair.hsm
    registry = {"registry": hsm.registry}
    token = {"label": "payments", "pin": PIN}
    entry = {"name": "primary", "model": "softhsm2", "library": SOFTHSM, "environment": hsm.environment, "admins": ["ops"]}
    return {
        "gateway_certificate": {"path": str(hsm.scratch / "gateway.p12"), "common_name": "gateway.example.com"},
        "host_look": {"files": [str(hsm.scratch)]},
        "hsm_certificate": {**registry, "instance": "primary", "key_label": "signer", "subject": {"commonName": "web01.example.com"}},
        "hsm_group": {**registry, "name": "payments", "connections": [{"instance": "primary", "token_label": "payments"}]},
        "hsm_info": {**registry, "library": SOFTHSM, "environment": hsm.environment, "token_label": "payments", "pin": PIN},
        "hsm_instance": {**registry, **hsm.instance("third", tokens=[hsm.token("third")])},
        "hsm_key": {**registry, "instance": "primary", "keys": [{"label": "dek", "type": "AES"}]},
        "hsm_registry": {**registry, "state": "saved", "path": str(hsm.scratch / "saved.db"), "host": "one"},
        "hsm_status": registry,
        "hsm_status_info": registry,
        "hsm_sync": {**registry, "group": "payments"},
        "kms_config": {**registry, "config_path": str(hsm.scratch / "kms.toml"), "instances": [{**entry, "tokens": [token]}]},
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_a_program(pair: Pair, module: str) -> None:
    """And says what the forked one says."""
    hsm: Hsm = pair.hsm
    ok(hsm.keys({"label": "signer", "type": "RSA"}))
    args = arguments(pair)[module]
    started, forked = ok(hsm.finish(hsm.start(module, args, check=True))), ok(hsm.call(module, args, check=True))
    assert started.keys() == forked.keys() and started["changed"] is forked["changed"]
    assert started.get("diff") == forked.get("diff")
    assert started["invocation"] == forked["invocation"]
    assert ok(hsm.finish(hsm.start(module, args)))["changed"] is started["changed"]


def test_no_module_leaves_a_core() -> None:
    """Neither in a file nor for a program that the kernel hands it to: at one byte it does neither, core(5)."""
    code = (
        "import json, resource, sys\n"
        "from ansible_collections.keyfleet.hsm.plugins.module_utils._module.guarded import GuardedModule\n"
        "GuardedModule({}).exit_json(limits=resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input='{"ANSIBLE_MODULE_ARGS": {}}', capture_output=True, text=True, check=True, env=os.environ
    )
    soft, hard = json.loads(done.stdout)["limits"]
    assert soft == hard <= 1
