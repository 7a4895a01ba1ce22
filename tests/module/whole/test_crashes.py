# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A vendor's library that crashes or hangs: the module tells in which call, and what was done; and it ends when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty, crashed, with_plan
from hsm_fixture import PIN, Hsm, ok

KEYS = [{"label": f"k{number}", "type": "AES"} for number in range(3)]
CERTIFICATE: dict[str, Any] = {"instance": "primary", "key_label": "sig", "subject": {"CN": "a.example.com"}, "self_signed": {}}


def test_a_crash_says_where_and_what_was_done(faulty: Faulty) -> None:
    with_plan(faulty, "C_GenerateKey:2:crash")
    answer = faulty.hsm.keys(*KEYS)
    assert crashed(answer, "C_GenerateKey") == ["generating key 'k0'"]
    assert answer["msg"].startswith("The PKCS#11 library crashed in C_GenerateKey while generating key 'k1' (signal 11).")
    assert answer["changed"] is True and "Whether that call took effect is not known." in answer["msg"]
    assert "generating key 'k0'" in answer["msg"] and PIN not in answer["_raw"]
    with_plan(faulty, "")
    assert [entry["action"] for entry in ok(faulty.hsm.keys(*KEYS))["applied"]] == ["record", "create", "create"]


@pytest.mark.parametrize(("module", "args"), [("hsm_sync", {"instance": "primary"}), ("hsm_certificate", CERTIFICATE)])
def test_a_crash_of_a_call_that_reads_changes_nothing(faulty: Faulty, module: str, args: dict[str, Any]) -> None:
    ok(faulty.hsm.keys({"label": "sig", "type": "EC"}))
    with_plan(faulty, "C_Login:1:crash")
    answer = faulty.hsm.run(module, **args)
    assert crashed(answer, "C_Login") == [] and answer["changed"] is False
    with_plan(faulty, "")
    assert "failed" not in faulty.hsm.run(module, **args)


def test_a_crash_in_a_change_of_the_pin(faulty: Faulty) -> None:
    """The token may have either PIN. Nothing is assumed: the new one stays in its file, and is tried first, once."""
    token = {**faulty.hsm.token(), "new_pin": "5520191"}
    answer = faulty.register("C_SetPIN:1:kill", tokens=[token])
    assert crashed(answer, "C_SetPIN")[0].endswith("payments.new") and answer["changed"] is True
    assert "5520191" not in answer["_raw"] and PIN not in answer["_raw"]
    assert ok(faulty.register(tokens=[token]))["instance"]["tokens"][0]["accessible"] is True


DEFECT = """
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.instances import hsm_instance as engine
from ansible_collections.keyfleet.hsm.plugins.modules import hsm_instance

def a_defect(request, context):
    context.warn("before it")
    raise ERROR("with " + request.spec.tokens[0].pin.reveal())

engine.converge = a_defect
hsm_instance.main()
"""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("RuntimeError", "unexpected", "report it: RuntimeError: with"),
        ("lambda text: OSError(24, text)", "host_refused", "the host refused: with"),
    ],
)
def test_a_defect_and_a_refusal_of_the_host_are_told_without_the_pin(hsm: Hsm, error: str, code: str, told: str) -> None:
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"registry": hsm.registry, **hsm.instance()}})
    program = DEFECT.replace("ERROR", f"({error})")
    done = subprocess.run([sys.executable, "-c", program], input=given, text=True, capture_output=True, check=False)
    answer = json.loads(done.stdout)
    assert answer["failure"]["code"] == code and told in answer["msg"]
    assert "before it" in str(answer["warnings"]) and PIN not in done.stdout + done.stderr


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_module_that_is_killed_takes_its_child_with_it(faulty: Faulty, number: signal.Signals) -> None:
    with_plan(faulty, "C_FindObjectsInit:1:hang")
    process = faulty.start("hsm_key", {"instance": "primary", "keys": KEYS})
    wait_for(lambda: faulty.log.exists() and faulty.calls()["C_FindObjectsInit"] > 0)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    if number == signal.SIGINT:  # Python looks at it when the call returns: never
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    out, _err = process.communicate(timeout=30)
    assert not out and process.returncode in (-number, -signal.SIGTERM, 1)
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    with_plan(faulty, "")
    assert ok(faulty.hsm.keys(*KEYS))["changed"] is True
