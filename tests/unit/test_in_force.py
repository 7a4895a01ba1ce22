# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host is as declared when all that was written is in force: what the roles make of a host's answer, given as plain values.

The expressions are those of vars/main.yml. What renders files, or asks the controller, is given here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from role_values import rendered

UNITS, FOLDER, MARKS = "/etc/systemd/system", "/etc/keyfleet-gateway", "/run/keyfleet"
RUNS = {"load": "loaded", "active": "active", "enabled": "enabled"}
SEEN = {**RUNS, "stale": False}
HEALTH_UNITS = [f"{UNITS}/keyfleet-gateway{rest}" for rest in (".service", "-registry.service", "-registry.timer")]
OFFERED = [f"{FOLDER}/one.cfg", f"{UNITS}/keyfleet-hsm@one.service", f"{UNITS}/keyfleet-front@one.service"]
WANTED = [*OFFERED, f"{FOLDER}/gateway.toml", *HEALTH_UNITS]
# An open gateway with one instance, as the role has left it.
FILES = {path: f"file root:root 0644 digest of {path}" for path in WANTED} | {
    FOLDER: "directory root:root 0755",
    **dict.fromkeys((f"{MARKS}/keyfleet-gateway.pending", f"{MARKS}/keyfleet-gateway.reload"), "absent"),
}
LOOK: dict[str, Any] = {
    "files": FILES,
    "units": {"keyfleet-hsm@one": SEEN, "keyfleet-front@one": SEEN, "keyfleet-gateway": RUNS, "keyfleet-gateway-registry.timer": RUNS},
    "packages": dict.fromkeys(("p11-kit", "haproxy", "openssl"), "install 1 amd64"),
    "listening": [4442],
    "health": 204,
    "found": [sorted(OFFERED[1:])],
    "users": {"keyfleet-hsm": [], "keyfleet-front": [], "keyfleet-gateway": []},
}
CODE = ['{"state": "ours", "damage": null}', '{"damage": null, "missing": [], "installed": {"keyfleet-gateway": "1"}}']
GATEWAY = {
    "gateway_look": LOOK,
    "gateway_offer": {"instances": [{"name": "one", "port": 4442}]},
    "gateway_wanted": {path: f"digest of {path}" for path in WANTED},
    "gateway_tried": {"differs": False},
    "gateway_certificate": {"differs": False},
    "gateway_health_looked": {"stdout_lines": CODE},
    "gateway_health_package": {"version": "1"},
    "gateway_health_without_file": [],
}
OFF = [path for path in WANTED if path not in HEALTH_UNITS and not path.endswith(".toml")]
WITHOUT_HEALTH: dict[str, Any] = {
    "gateway_health": False,
    "gateway_wanted": {path: f"digest of {path}" for path in OFF},
    "gateway_look": {**LOOK, "files": {**FILES, **dict.fromkeys(HEALTH_UNITS, "absent")}, "health": None},
}


def say(role: str, name: str, given: dict[str, Any]) -> Any:
    return rendered(role, f"{{{{ {name} }}}}", given)


def looked(files: dict[str, str] | None = None, units: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"gateway_look": {**LOOK, "files": {**FILES, **(files or {})}, "units": {**LOOK["units"], **(units or {})}}}


def test_a_gateway_with_everything_in_force_is_left_alone() -> None:
    assert say("gateway", "gateway_open_as_declared", GATEWAY) is True
    assert say("gateway", "gateway_health_due", GATEWAY) == ""
    assert say("gateway", "gateway_open_as_declared", {**GATEWAY, **WITHOUT_HEALTH}) is True


OLD_CODE = {"gateway_health_looked": {"stdout_lines": [CODE[0], CODE[1].replace('"1"', '"0"')]}}
NOT_IN_FORCE = [
    # What an earlier run has noted, of changes that this one does not see any more.
    pytest.param(looked({f"{MARKS}/keyfleet-gateway.pending": "file root:root 0600 0"}), "", "restart", id="noted"),
    pytest.param(looked({f"{MARKS}/keyfleet-gateway.reload": "file root:root 0600 0"}), "", "reload", id="noted for a reload"),
    # What this run will write.
    pytest.param(looked({f"{FOLDER}/gateway.toml": "absent"}), "reload", "reload", id="configuration"),
    *(pytest.param(looked({path: "file root:root 0600 0"}), "restart", "restart", id=Path(path).name) for path in HEALTH_UNITS),
    pytest.param(OLD_CODE, "restart", "restart", id="code"),
    # Of the certificate its own step makes the note.
    pytest.param({"gateway_tried": {"differs": True}, "gateway_certificate": {"differs": True}}, "", "restart", id="certificate"),
    # Units that a client is served by. Their processes are not the health service.
    pytest.param(looked(units={"keyfleet-hsm@one": {**RUNS, "stale": True}}), "", "", id="server"),
    pytest.param(looked(units={"keyfleet-front@one": {**RUNS, "stale": None}}), "", "", id="listener"),
]


@pytest.mark.parametrize(("found", "change", "due"), NOT_IN_FORCE)
def test_a_gateway_with_something_that_is_not_in_force(found: dict[str, Any], change: str, due: str) -> None:
    given = {**GATEWAY, **found}
    told = [say("gateway", f"gateway_{name}", given) for name in ("open_as_declared", "health_change", "health_due")]
    assert told == [False, change, due]


@pytest.mark.parametrize("left", HEALTH_UNITS)
def test_a_health_service_that_is_not_declared_any_more(left: str) -> None:
    look = {**WITHOUT_HEALTH["gateway_look"], "files": {**WITHOUT_HEALTH["gateway_look"]["files"], left: FILES[left]}}
    given = {**GATEWAY, **WITHOUT_HEALTH, "gateway_look": look}
    assert say("gateway", "gateway_open_as_declared", given) is False
    assert say("gateway", "gateway_health_left", given) == [left]
    # Whoever runs the services without the role stops them without it.
    assert say("gateway", "gateway_open_as_declared", {**given, "gateway_manage_service": False}) is True


@pytest.mark.parametrize(
    ("told", "written", "due"),
    [(SEEN, "", False), ({**RUNS, "stale": True}, "", True), ({**RUNS, "stale": None}, "", False), (None, "", False)]
    + [(SEEN, name, True) for name in ("ca", "cert", "config", "unit")],
)
def test_a_client_whose_connections_have_not_seen_its_files(told: Any, written: str, due: bool) -> None:
    given: dict[str, Any] = {f"client_{name}_written": {"changed": name == written} for name in ("ca", "cert", "config", "unit")}
    assert say("client", "client_due", {**given, "client_looked": {"units": {"keyfleet-client": told}}}) is due
