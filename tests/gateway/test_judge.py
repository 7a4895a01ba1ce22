# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An independent judge: what pkcs11-check finds of a token itself, at the bare socket of p11-kit, and through the gateway."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from gateway_scene import CLIENT, HERE, PIN, Scene
from many_clients import behind_client, of_server

HOST = "host2"
SOFTHSM2 = "/usr/lib/softhsm/libsofthsm2.so"
CHECK = "/opt/pkcs11-check/bin/pkcs11-check"
# pkcs11-check takes a slot by its place among those that have a token.
PLACE = f"""
import pkcs11
slots = pkcs11.lib("{SOFTHSM2}").get_slots(token_present=True)
print([slot.get_token().label for slot in slots].index("many"))
"""


def judged(scene: Scene, name: str, library: str, slot: int, socket: str) -> dict[str, Any]:
    """The results as a value; they are also in a file of this name on the host."""
    command = (
        f"sudo mkdir -p /root/judge/{name} && sudo env -C /root/judge/{name} P11TEST_PIN={PIN} P11_KIT_SERVER_ADDRESS=unix:path={socket} "
        f"{CHECK} test --module {library} --slot {slot} --marker 'smoke or core' --output json --output-file /root/judge/{name}.json "
        f">/dev/null 2>&1; sudo cat /root/judge/{name}.json"
    )
    done = subprocess.run(scene.fleet.ssh_command(HOST, command), capture_output=True, text=True, timeout=1200, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def skipped(results: dict[str, Any]) -> dict[str, int]:
    """Why tests were skipped, and how many."""
    reasons: dict[str, int] = {}
    for unit in results["units"]:
        for reason, count in unit.get("skip_reasons", {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
    return reasons


def test_the_gateway_is_as_good_as_p11_kit(scene: Scene) -> None:
    run = scene.play(HERE / "judge.yml")
    assert run.code == 0, run.failures()
    # SoftHSM2 bears no login of another program beside it, and the probe logs in.
    scene.ssh(HOST, "sudo systemctl stop keyfleet-gateway")
    try:
        results = {
            "direct": judged(scene, "direct", SOFTHSM2, int(scene.python(HOST, PLACE)), ""),
            "bare": judged(scene, "bare", CLIENT, 0, of_server("many")),
            "gateway": judged(scene, "gateway", CLIENT, 0, behind_client("judged")),
        }
        command = f"sudo {CHECK} compare-results /root/judge/direct.json /root/judge/gateway.json"
        compared = scene.ssh(HOST, command, sure=False).stdout
    finally:
        scene.ssh(HOST, "sudo systemctl disable --now keyfleet-client; sudo systemctl start keyfleet-gateway")
    summaries = {name: {word: count for word, count in found["summary"].items() if count} for name, found in results.items()}
    print(json.dumps(summaries, indent=1), compared)
    more = {reason: count for reason, count in skipped(results["gateway"]).items() if count != skipped(results["direct"]).get(reason, 0)}
    print("skipped through the gateway, and not on the token itself:", json.dumps(more, indent=1))
    assert all(set(summary) <= {"passed", "skipped", "total"} and summary["passed"] > 100 for summary in summaries.values()), summaries
    assert summaries["gateway"] == summaries["bare"]
    assert skipped(results["gateway"]) == skipped(results["bare"])
