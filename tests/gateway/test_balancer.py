# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role load_balancer in front of open gateways that have tokens of their own: what it compares, and how it asks for health."""

from __future__ import annotations

from fleet_fixture import Run, sound, text_of
from gateway_scene import APP, GATEWAYS, PIN, Scene

CONFIG = "/etc/haproxy/haproxy.cfg"
TOKEN = f"""
import pkcs11
token = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label="one")
with token.open(rw=True, user_pin="{PIN}") as session:
"""
MAKE = TOKEN + '    session.generate_key(pkcs11.KeyType.AES, 256, label="extra", id=b"extra", store=True)\n'
DESTROY = TOKEN + '    session.get_key(label="extra").destroy()\n'


def balance(scene: Scene, *arguments: str, **extra: str) -> Run:
    return scene.play("keyfleet.hsm.site", "--limit", APP, "--tags", "load_balancer", *arguments, **extra)


def test_a_second_run_changes_nothing(scene: Scene) -> None:
    sound(balance(scene), **{APP: 0})


def test_a_key_that_one_gateway_lacks_is_named_before_anything_is_written(scene: Scene) -> None:
    written = scene.ssh(APP, f"stat -c %y {CONFIG}").stdout
    scene.python(GATEWAYS[1], MAKE)
    try:
        # Something is to be changed, too.
        run = balance(scene, load_balancer_health_fall="3")
    finally:
        scene.python(GATEWAYS[1], DESTROY)
    assert run.code != 0
    assert "load_balancer_gateways: The tokens of the gateways do not have the same keys." in text_of(run)
    assert f"{GATEWAYS[0]}: token 'one' lacks 'extra', which {GATEWAYS[1]} has" in text_of(run)
    assert PIN not in run.output
    assert scene.ssh(APP, f"stat -c %y {CONFIG}").stdout == written


def test_tokens_of_their_own_are_no_one_token(scene: Scene) -> None:
    run = balance(scene, load_balancer_share="token")
    assert run.code != 0
    assert "The gateways do not share one token." in text_of(run)
    assert "load_balancer_share: keys" in text_of(run)


def test_health_is_asked_over_tls_with_the_certificate_checked(scene: Scene) -> None:
    scene.put(APP, "/etc/ssl/certs/keyfleet-test.pem", (scene.pki / "gateways.pem").read_text())
    try:
        over_tls = {"load_balancer_health": "https", "load_balancer_health_ca_file": "/etc/ssl/certs/keyfleet-test.pem"}
        assert balance(scene, **over_tls).code == 0
        for backend in ("gateways", "gateways-many", "gateways-faulty"):
            for host in GATEWAYS:
                scene.wait_for_server(host, "UP", backend)
        # Clients' CA did not issue the gateways' certificates.
        scene.put(APP, "/etc/ssl/certs/keyfleet-test.pem", (scene.pki / "clients.pem").read_text())
        scene.ssh(APP, "sudo systemctl reload haproxy")
        scene.wait_for_server(GATEWAYS[0], "DOWN")
    finally:
        run = balance(scene)
    sound(run, **{APP: 2})
    scene.wait_for_server(GATEWAYS[0], "UP")
