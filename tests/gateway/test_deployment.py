# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gateways that the other tests stand on: healthy, and both sign with the same keys."""

from __future__ import annotations

import json

from gateway_scene import APP, CLIENT, GATEWAYS, PIN, Scene, socket_of

SIGN = f"""
import json, pkcs11
from pkcs11 import Mechanism
with pkcs11.lib("{CLIENT}").get_token(token_label="one").open(user_pin="{PIN}") as session:
    keys = {{label: session.get_key(label=label, object_class=pkcs11.ObjectClass.PRIVATE_KEY) for label in ("rsa", "ec")}}
    rsa = keys["rsa"].sign(b"x", mechanism=Mechanism.SHA256_RSA_PKCS)
    made = {{"rsa": rsa, "ec": keys["ec"].sign(b"x" * 32, mechanism=Mechanism.ECDSA)}}
    print(json.dumps({{label: signature.hex() for label, signature in made.items()}}))
"""


def test_both_gateways_are_healthy_and_sign_through_the_balancer(scene: Scene) -> None:
    assert {host: scene.health(host) for host in GATEWAYS} == dict.fromkeys(GATEWAYS, 204)
    through = [json.loads(scene.python(APP, SIGN, **socket_of("one")))]
    # RSA with PKCS#1 1.5 makes the same signature from the same key.
    scene.ssh(GATEWAYS[0], "sudo systemctl stop keyfleet-gateway")
    try:
        scene.wait_for_server(GATEWAYS[0], "DOWN")
        through.append(json.loads(scene.python(APP, SIGN, **socket_of("one"))))
    finally:
        scene.ssh(GATEWAYS[0], "sudo systemctl start keyfleet-gateway")
        scene.wait_for_server(GATEWAYS[0], "UP")
    assert through[0]["rsa"] == through[1]["rsa"]
    assert all(len(made["ec"]) == 128 for made in through)
