# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that say which clients may come are the health service's as well: its configuration is another one when they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import role_values
from keyfleet_gateway.config import parse_config

ROLE = Path(__file__).resolve().parents[2] / "roles" / "gateway"
DECLARED = [{"name": "primary", "model": "softhsm2", "tokens": [{"label": "payments", "pin_file": "/etc/keyfleet/pin"}]}]


def rendered(template: str, **given: object) -> Any:
    return role_values.rendered("gateway", template, {"gateway_instances": DECLARED, **given})


@pytest.fixture
def clients(tmp_path: Path) -> dict[str, str]:
    """The variables with both files on the controller."""
    given = {f"gateway_client_{kind}_source": str(tmp_path / kind) for kind in ("ca", "crl")}
    for path in given.values():
        Path(path).write_text("first\n")
    return given


def test_lists_are_handed_on_where_clients_are_asked_for_a_certificate(clients: dict[str, str]) -> None:
    def https(**given: object) -> Any:
        found = rendered("{{ gateway_health_settings }}", **clients, **given)
        parse_config({**found, "instances": [{**DECLARED[0], "tokens": [{"label": "payments", "login": False}]}]})
        return found.get("https")

    assert https()["client_crl"] == "/etc/keyfleet-gateway/client_crl.pem"
    clients["gateway_client_ca_source"] = "system"
    assert https(gateway_health_client_names=["monitor"])["client_crl"] == "/etc/keyfleet-gateway/client_crl.pem"
    assert "client_crl" not in https() and https(gateway_health_tls_port=0) is None
    clients["gateway_client_crl_source"] = ""
    assert "client_crl" not in https(gateway_health_client_names=["monitor"])


@pytest.mark.parametrize("kind", ["ca", "crl"])
def test_configuration_changes_with_the_files_of_clients(clients: dict[str, str], kind: str) -> None:
    template = (ROLE / "templates" / "gateway.toml.j2").read_text()
    # Here are no plugins of collections. The filters have tests of their own.
    for theirs, ours in (("to_toml", "to_json"), ("config_word('plain')", "string")):
        template = template.replace(f"keyfleet.hsm.{theirs}", ours)
    template = template.replace("ansible.builtin.file", "file")
    before = rendered(template, **clients)
    assert rendered(template, **clients) == before
    Path(clients[f"gateway_client_{kind}_source"]).write_text("second\n")
    after = rendered(template, **clients)
    assert [one.split(" ")[1] for one in set(after.splitlines()) - set(before.splitlines())] == [f"/etc/keyfleet-gateway/client_{kind}.pem"]
    assert "client_" not in rendered(template, **{**clients, "gateway_health_tls_port": 0})
