# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scratch SoftHSM2 for each test, and modules run as Ansible runs them: one process a call, JSON in, JSON out."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked import Forked, Server

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
SO_PIN, PIN = "87654321", "pin-7391"
# Seconds for what is made to hang, in tests that wait for it. What has to answer meanwhile makes keys, on a machine that does other work.
HANG = 10


def _spy_library() -> str:
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        if Path(folder, "pkcs11-spy.so").exists():
            return str(Path(folder, "pkcs11-spy.so"))
    raise AssertionError("pkcs11-spy.so is missing: install opensc-pkcs11")


def _name(module: str) -> str:
    return f"ansible_collections.keyfleet.hsm.plugins.modules.{module}"


def _payload(args: Mapping[str, Any], check: bool, diff: bool = True) -> str:
    return json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": diff}})


@dataclass
class Hsm:
    """A scratch folder with a token directory and a registry of its own."""

    scratch: Path
    library: str = SOFTHSM
    extra_environment: dict[str, str] = field(default_factory=dict)
    server: Server | None = None  # which forks the calls, if not those of all tests

    @property
    def registry(self) -> str:
        return str(self.scratch / "registry.db")

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.scratch / "softhsm2.conf"), **self.extra_environment}

    def start(self, module: str, args: Mapping[str, Any], *, check: bool = False, by: Sequence[str] = ()) -> subprocess.Popen[str]:
        """A process as Ansible starts it: to be looked at from outside, or started ``by`` another command. For all else :meth:`fork`
        is enough."""
        command = [*by, sys.executable, "-m", _name(module)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdin is not None
        process.stdin.write(_payload(args, check))
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[str] | Forked) -> dict[str, Any]:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert out.strip(), f"the module died without an answer: rc {process.returncode}\n{err}"
        answer: dict[str, Any] = json.loads(out)
        answer["_raw"] = out + err
        return answer

    def fork(self, module: str, args: Mapping[str, Any], *, check: bool = False, diff: bool = True) -> Forked:
        """A process of its own that is forked."""
        return Forked(_name(module), _payload(args, check, diff), self.server)

    def call(self, module: str, args: Mapping[str, Any], *, check: bool = False, diff: bool = True) -> dict[str, Any]:
        """A module's answer."""
        return self.finish(self.fork(module, args, check=check, diff=diff))

    def run(self, module: str, *, check: bool = False, diff: bool = True, **args: Any) -> dict[str, Any]:
        """A module's answer. ``registry`` is filled in unless given."""
        return self.call(module, {"registry": self.registry, **args}, check=check, diff=diff)

    def token(self, label: str = "payments", **options: Any) -> dict[str, Any]:
        """One entry of ``tokens:`` that is created, with its PIN kept in a file."""
        pin_file = str(self.scratch / "pins" / label)
        return {"label": label, "initialize": True, "so_pin": SO_PIN, "pin": PIN, "pin_file": pin_file, **options}

    def instance(self, name: str = "primary", **options: Any) -> dict[str, Any]:
        """Arguments of hsm_instance for one token ``payments``."""
        base = {"name": name, "model": "softhsm2", "library": self.library, "environment": self.environment}
        return {**base, "tokens": [self.token()], **options}

    def register(self, name: str = "primary", **options: Any) -> dict[str, Any]:
        answer = self.run("hsm_instance", **self.instance(name, **options))
        assert "instance" in answer and not answer.get("failed"), answer
        instance: dict[str, Any] = answer["instance"]
        return instance

    def keys(self, *keys: Mapping[str, Any], check: bool = False, **args: Any) -> dict[str, Any]:
        return self.run("hsm_key", check=check, **{"instance": "primary", "keys": list(keys), **args})

    def tool(self, *args: str, pin: str | None = PIN, token: str = "payments") -> str:
        """pkcs11-tool: another program's view of the token."""
        login = ["--login", "--pin", pin] if pin else []
        by_label = ["--token-label", token] if token else []
        command = ["pkcs11-tool", "--module", SOFTHSM, *by_label, *login, *args]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def softhsm_util(self, *args: str) -> str:
        command = ["softhsm2-util", *args]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spied(self) -> tuple[Hsm, Path]:
        """The same HSM behind pkcs11-spy, and the file that it logs every call to."""
        log = self.scratch / "spy.log"
        extra = {"PKCS11SPY": SOFTHSM, "PKCS11SPY_OUTPUT": str(log)}
        return Hsm(self.scratch, library=_spy_library(), extra_environment=extra), log


def calls(log: Path) -> Counter[str]:
    """How often each PKCS#11 function stands in a spy log."""
    names = [line.split(": ", 1)[1].strip() for line in log.read_text(errors="replace").splitlines() if ": C_" in line]
    return Counter(names)


def ok(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a module that did not fail."""
    assert not answer.get("failed"), answer
    return answer


@dataclass
class Pair:
    """Two SoftHSM2 with token directories of their own, behind one registry and one group."""

    hsm: Hsm
    standby: Hsm

    @classmethod
    def made(cls, hsm: Hsm) -> Pair:
        other = hsm.scratch / "other"
        (other / "tokens").mkdir(parents=True)
        (other / "softhsm2.conf").write_text(f"directories.tokendir = {other}/tokens\nlog.level = ERROR\n")
        pair = cls(hsm, Hsm(other))
        hsm.register()
        hsm.register("standby", tokens=[hsm.token("payments-b")], environment=pair.standby.environment)
        ok(pair.group())
        return pair

    def group(self, name: str = "payments", *, check: bool = False, **options: Any) -> dict[str, Any]:
        both = [{"instance": "primary", "token_label": "payments"}, {"instance": "standby", "token_label": "payments-b"}]
        return self.hsm.run("hsm_group", check=check, **{"name": name, "connections": both, **options})

    def keys(self, *keys: Mapping[str, Any], check: bool = False, group: str = "payments", **args: Any) -> dict[str, Any]:
        return self.hsm.run("hsm_key", check=check, group=group, keys=list(keys), **args)

    def sync(self, *, check: bool = False, group: str = "payments", **args: Any) -> dict[str, Any]:
        return self.hsm.run("hsm_sync", check=check, group=group, **args)

    def tool(self, *args: str) -> str:
        """pkcs11-tool on the first token."""
        return self.hsm.tool(*args)

    def tool_b(self, *args: str) -> str:
        """pkcs11-tool on the second token."""
        return self.standby.tool(*args, token="payments-b")

    def away(self, which: Hsm) -> None:
        (which.scratch / "tokens").rename(which.scratch / "tokens.away")

    def back(self, which: Hsm) -> None:
        (which.scratch / "tokens.away").rename(which.scratch / "tokens")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the registry."""
        with closing(sqlite3.connect(self.hsm.registry)) as registry:
            return registry.execute(query, values).fetchall()

    def records(self, group: str | None = "payments") -> dict[str, tuple[str, list[str]]]:
        """State and operations of a group's virtual keys by label; of those that are in none with None."""
        query = (
            "SELECT label, state, operations FROM virtual_key LEFT JOIN hsm_group ON hsm_group.id = virtual_key.group_id "
            "WHERE hsm_group.name IS ?"
        )
        return {label: (state, json.loads(operations)) for label, state, operations in self.rows(query, group)}


def usage(tool: Callable[..., str], label: str, kind: str = "secrkey") -> set[str]:
    """What the HSM itself allows a key, as pkcs11-tool says; empty where it has no such key."""
    for item in re.split(r"\n(?=\S)", tool("--list-objects", "--type", kind)):
        if re.search(rf"^\s+label:\s+{re.escape(label)}$", item, re.MULTILINE):
            found = re.search(r"Usage:\s*(.*)", item)
            return set(found.group(1).replace(" ", "").split(",")) if found else {"none"}
    return set()


def four_steps(run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Check, apply, check, apply: the plan is what is done, and the second time there is nothing to do. The first answer."""
    planned, done = ok(run(check=True)), ok(run(check=False))
    assert planned["diff"] == done["diff"]
    assert planned["changed"] is done["changed"] is True, done
    for check in (True, False):
        again = ok(run(check=check))
        assert again["changed"] is False, again["diff"]
        assert again["diff"] == {"before": {}, "after": {}}
    return done
