# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PINs appear nowhere: planted, and then searched for in all that a run shows, writes, logs and starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsm_fixture import Hsm
from process_watch import watched
from system_log import system_log

# Not of digits alone: those would be found by chance, in the name of a temporary folder.
PIN, SO_PIN = "kite830561", "kite47110815"
CANARIES = (PIN.encode(), SO_PIN.encode())
QUICKSTART = Path(__file__).resolve().parents[3] / "playbooks" / "quickstart.yml"
# Where a PIN belongs: its own file, and the file of the server that needs it.
ALLOWED = {"pins", "kms.toml", "vars.yml"}


def play(hsm: Hsm, playbook: Path, *options: str, **variables: Any) -> subprocess.CompletedProcess[bytes]:
    """A playbook at -vvv --diff, its PINs handed over in a file."""
    given = hsm.scratch / "vars.yml"
    given.write_text(json.dumps({"quickstart_pin": PIN, "quickstart_so_pin": SO_PIN, **variables}))
    given.chmod(0o600)
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvv", "--diff", "-e", f"@{given}", *options]
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(hsm.scratch / "ansible"),
        "ANSIBLE_LOG_PATH": str(hsm.scratch / "ansible.log"),
        "ANSIBLE_PIPELINING": "0",
    }
    return subprocess.run(command, capture_output=True, env=environment, check=False, timeout=300)


def leaks(hsm: Hsm) -> list[str]:
    """Files below the scratch folder that hold a canary and should not."""
    found = []
    for path in hsm.scratch.rglob("*"):
        if not path.is_file() or set(path.relative_to(hsm.scratch).parts) & ALLOWED:
            continue
        if any(canary in path.read_bytes() for canary in CANARIES):
            found.append(str(path))
    return found


def assert_clean(hsm: Hsm, done: subprocess.CompletedProcess[bytes]) -> None:
    for canary in CANARIES:
        for stream in (done.stdout, done.stderr):
            at = stream.find(canary)
            assert at < 0, stream[max(0, at - 300) : at + 50].decode(errors="replace")
    assert leaks(hsm) == []


def test_the_quickstart_shows_no_pin(hsm: Hsm) -> None:
    demo = str(hsm.scratch / "demo")
    with watched(PIN, SO_PIN) as watcher, system_log() as log:
        runs = [play(hsm, QUICKSTART, *check, scratch=demo) for check in (["--check"], [], ["--check"], [])]
    for done in runs:
        assert done.returncode == 0, done.stdout.decode()[-3000:]
        assert_clean(hsm, done)
    assert b"changed=0" in runs[2].stdout and b"changed=0" in runs[3].stdout
    assert watcher.looked > 1000 and watcher.seen == set()
    logged = b"".join(log)
    assert b"hsm_instance" in logged and not any(canary in logged for canary in CANARIES)
    # Masking by text would have hit harmless things that look like a PIN.
    assert b'********"' not in runs[1].stdout
    assert Path(demo, "pins", "payments").read_text() == PIN + "\n"


WRONG = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
"""

TASKS = {
    "wrong pin": """keyfleet.hsm.hsm_instance:
        registry: "{{ scratch }}/r.db"
        name: primary
        model: softhsm2
        environment: {SOFTHSM2_CONF: "{{ conf }}"}
        tokens: [{label: payments, pin: "{{ quickstart_pin }}"}]""",
    "misspelt option": """keyfleet.hsm.hsm_instance:
        registry: "{{ scratch }}/r.db"
        name: primary
        model: softhsm2
        tokens: [{label: payments, pni: "{{ quickstart_pin }}"}]""",
    "wrong place": """keyfleet.hsm.hsm_instance:
        registry: "{{ scratch }}/r.db"
        name: primary
        model: softhsm2
        so_pin: "{{ quickstart_so_pin }}"
        tokens: []""",
    "no list": """keyfleet.hsm.hsm_instance:
        registry: "{{ scratch }}/r.db"
        name: primary
        model: softhsm2
        tokens: "{{ {'label': 'payments', 'pin': quickstart_pin} }}" """,
    "bad input": """keyfleet.hsm.hsm_key:
        registry: "{{ scratch }}/r.db"
        instance: primary
        library: relative.so
        pin: "{{ quickstart_pin }}"
        keys: [{label: a, type: AES, size: 1}]""",
    "direct": """keyfleet.hsm.hsm_key:
        library: /usr/lib/softhsm/libsofthsm2.so
        environment: {SOFTHSM2_CONF: "{{ conf }}"}
        token_label: payments
        pin: "{{ quickstart_pin }}"
        keys: [{label: a, type: AES}]""",
    "misspelt key option": """keyfleet.hsm.hsm_key:
        library: /usr/lib/softhsm/libsofthsm2.so
        token_label: payments
        pins: "{{ quickstart_pin }}"
        keys: [{label: a, type: AES}]""",
}


def test_a_failure_shows_no_pin(hsm: Hsm) -> None:
    hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", "12345678", "--pin", "654321")
    playbook = hsm.scratch / "wrong.yml"
    # Each of them is to fail, and what it shows is looked at: one play for all, so the next one goes on.
    tasks = [f"    - name: Give {name}\n      ignore_errors: true\n      {task}\n" for name, task in TASKS.items()]
    playbook.write_text(WRONG + "".join(tasks))
    variables = {"scratch": str(hsm.scratch / "demo"), "conf": hsm.environment["SOFTHSM2_CONF"]}
    with system_log() as log:
        done = play(hsm, playbook, **variables)
    assert f"ok={len(TASKS)} ".encode() in done.stdout and f"ignored={len(TASKS)}".encode() in done.stdout, done.stdout.decode()[-2000:]
    assert_clean(hsm, done)
    assert not any(canary in line for line in log for canary in CANARIES)


def test_a_pin_that_looks_like_something_else_masks_nothing(hsm: Hsm) -> None:
    """1024 is the default of max_sessions, and a part of the path."""
    folder = hsm.scratch / "x1024"
    folder.mkdir()
    tokens = [{**hsm.token(pin="1024"), "pin_file": str(folder / "pin")}]
    answer = hsm.run("hsm_instance", **hsm.instance(tokens=tokens))
    assert answer["instance"]["max_sessions"] == 1024
    assert answer["instance"]["tokens"][0]["pin_file"] == str(folder / "pin")
    given = answer["invocation"]["module_args"]["tokens"][0]
    assert given["pin"] == given["so_pin"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
