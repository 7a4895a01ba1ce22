# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What services with keys in an HSM are given, and what is refused, from plain values."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.consumer_plan import consumer_plan
from asn1crypto.core import Sequence, UTF8String, VisibleString

CLIENT = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
WEB: dict[str, Any] = {
    "name": "web",
    "kind": "nginx",
    "hsm": "payments",
    "token": "payments",
    "pin_file": "/etc/keyfleet/pins/payments",
    "keys": [{"label": "web-tls@2", "certificate": "/srv/web.pem"}],
}
SHELL: dict[str, Any] = {**WEB, "name": "shell", "kind": "sshd", "keys": [{"label": "host"}]}


def plan(*consumers: dict[str, Any], way: str = "provider", current: dict[str, Any] | None = None) -> dict[str, Any]:
    return consumer_plan(list(consumers), hsms=["payments"], client_library=CLIENT, way=way, current=current)


def problems(**changed: Any) -> list[str]:
    found: list[str] = plan({**WEB, **changed})["problems"]
    return found


def test_a_key_that_follows_its_certificate() -> None:
    following = {**WEB, "keys": [{"label": "web-tls", "certificate": "/srv/web.pem", "generation": "current"}]}
    for current, label in (({}, "web-tls"), ({"web": {"tls": "web-tls@3"}}, "web-tls@3"), ({"other": {"tls": "web-tls@3"}}, "web-tls")):
        found = plan(following, current=current)
        [key] = found["consumers"][0]["keys"]
        assert (key["label"], key["follows"]) == (label, "web-tls") and label.replace("@", "%40") in key["uri"]
        # It is looked for, and that of no generation has to be there.
        assert (found["proofs"][0]["labels"], found["proofs"][0]["follows"]) == ([], ["web-tls"])
    # What is named stays so.
    assert plan(WEB, current={"web": {"tls": "web-tls@3"}})["consumers"][0]["keys"][0]["label"] == "web-tls@2"


def test_a_web_server_and_a_host_key_behind_a_gateway_with_one_pin_to_prove() -> None:
    found = plan(WEB, SHELL)
    assert found["problems"] == []
    web, shell = found["consumers"]
    assert web["environment"] == {"P11_KIT_SERVER_ADDRESS": "unix:path=/run/keyfleet-client/payments.sock"}
    assert (web["library"], web["service"], web["held_by"], web["users"], web["groups"]) == (
        CLIENT,
        "nginx",
        "nginx",
        ["www-data"],
        ["keyfleet-client"],
    )
    assert (web["check"], web["watched"], web["way"]) == ("127.0.0.1:443", True, "provider")
    assert web["keys"][0]["uri"] == "pkcs11:token=payments;object=web-tls%402;type=private"
    assert web["keys_line"] == "tls=pkcs11:token=payments;object=web-tls%402;type=private"
    assert (shell["held_by"], shell["service"], shell["way"], shell["socket"]) == (
        "keyfleet-agent-shell",
        "ssh",
        "",
        "/run/keyfleet-agent-shell/agent.sock",
    )
    [proof] = found["proofs"]
    assert (proof["names"], proof["alone"], proof["labels"]) == (["web", "shell"], ["shell"], ["web-tls@2", "host"])
    # Another file may have another PIN.
    assert len(plan(WEB, {**SHELL, "pin_file": "/etc/other"})["proofs"]) == 2


def test_an_hsm_of_the_host_itself_and_a_seal() -> None:
    own = {
        **WEB,
        "kind": "openbao",
        "library": "/opt/hsm/lib.so",
        "environment": {"HSM_CONF": "/etc/hsm.conf"},
        "keys": [{"label": "unseal"}],
    }
    del own["hsm"]
    [bao] = plan({**own, "seal_options": {"mechanism": "0x1085"}})["consumers"]
    assert (bao["library"], bao["environment"], bao["groups"]) == ("/opt/hsm/lib.so", {"HSM_CONF": "/etc/hsm.conf"}, [])
    assert (bao["seal_pin"], bao["seal_options"], bao["watched"]) == ("BAO_HSM_PIN", {"mechanism": "0x1085"}, False)


class Wrapped(Sequence):  # type: ignore[misc]
    _fields: ClassVar[list[tuple[str, Any]]] = [("desc", VisibleString), ("uri", UTF8String)]


@pytest.mark.parametrize("label", ["a", "l" * 300])
def test_the_file_that_stands_for_a_key_is_a_sequence_of_two_strings(label: str) -> None:
    [web] = plan({**WEB, "keys": [{"label": label, "certificate": "/srv/web.pem"}]})["consumers"]
    first, *middle, last = web["keys"][0]["pem"].splitlines()
    assert (first, last) == ("-----BEGIN PKCS#11 PROVIDER URI-----", "-----END PKCS#11 PROVIDER URI-----")
    read = Wrapped.load(base64.b64decode("".join(middle)), strict=True)
    assert (read["desc"].native, read["uri"].native) == ("PKCS#11 Provider URI v1.0", web["keys"][0]["uri"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Web 1"}, "client_consumers: Web 1: invalid name: use at most 32 small letters, digits and -"),
        ({"kind": "apache"}, "client_consumers: web: invalid kind 'apache': use one of openssl, nginx, haproxy, sshd, openbao, vault"),
        ({"kind": "haproxy", "service": "haproxy"}, "client_consumers: web: kind: the distributions' HAProxy cannot open a key in an HSM"),
        ({"hsm": "paymnts"}, "client_consumers: web: hsm: 'paymnts' is not in client_hsms: it has payments"),
        ({"library": "/opt/lib.so"}, "client_consumers: web: give either hsm, the name of an entry of client_hsms, or library"),
        ({"hsm": None}, "client_consumers: web: give either hsm"),
        ({"hsm": None, "library": "lib.so"}, "client_consumers: web: library: invalid path 'lib.so'"),
        ({"environment": {"A": "1"}}, "client_consumers: web: environment: is for library: leave it out"),
        ({"hsm": None, "library": "/l.so", "environment": {"A": "a'b"}}, "client_consumers: web: environment: a value has a quote"),
        ({"token": ""}, "client_consumers: web: token: is missing or not text: give the label of the token"),
        ({"pin_file": "pins/web"}, "client_consumers: web: pin_file: invalid path 'pins/web'"),
        ({"kind": "openssl"}, "client_consumers: web: service: is missing"),
        ({"keys": []}, "client_consumers: web: keys: give a list with the label of each key"),
        ({"keys": [{"label": "a"}]}, "client_consumers: web: keys: a: certificate: is missing"),
        ({"keys": [{"label": 'a"b', "certificate": "/c"}]}, "client_consumers: web: keys: a label is missing, or is not text"),
        ({"keys": [{"label": one, "certificate": "/c"} for one in "ab"]}, "client_consumers: web: keys: 2 have the name tls"),
        (
            {"kind": "sshd", "keys": [{"label": "a"}, {"label": "b", "name": "b"}]},
            "client_consumers: web: keys: give one key: sshd has no use for 2",
        ),
        (
            {"keys": [{"label": "a", "certificate": "/c", "generation": 2}]},
            "client_consumers: web: keys: a: generation: invalid 2: use named or current",
        ),
        (
            {"keys": [{"label": "a@2", "certificate": "/c", "generation": "current"}]},
            "client_consumers: web: keys: a@2: generation: current is any: give the label a",
        ),
        (
            {"kind": "sshd", "keys": [{"label": "a", "generation": "current"}]},
            "client_consumers: web: keys: a: generation: current follows a certificate, and sshd has none",
        ),
        (
            {"kind": "openssl", "service": "mail", "keys": [{"label": "a", "generation": "current"}]},
            "client_consumers: web: keys: a: generation: current follows the certificate: give certificate",
        ),
        ({"check": "443"}, "client_consumers: web: check: give an address and a port"),
        ({"check_interval": 0.5}, "client_consumers: web: check_interval: give 1 to 9999 seconds"),
        ({"users": ["root; true"]}, "client_consumers: web: users: give a list of names"),
        (
            {"kind": "vault", "keys": [{"label": "a"}], "seal_options": {"pin": "1"}},
            "client_consumers: web: seal_options: pin: cannot be given",
        ),
    ],
)
def test_what_is_refused(changed: dict[str, Any], said: str) -> None:
    [problem] = problems(**changed)
    assert problem.startswith(said), problem


def test_sshd_gets_no_library_that_shows_all_hsms() -> None:
    [problem] = plan({**SHELL, "hsm": None, "library": "/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so"})["problems"]
    assert "would try the PIN on each of them" in problem


def test_two_entries_for_one_service_or_of_one_name() -> None:
    assert plan(WEB, WEB)["problems"] == [
        "client_consumers: web: 2 entries have this name: give each its own",
        "client_consumers: nginx: 2 entries have this service: give each its own",
    ]


def test_two_services_that_would_have_one_file() -> None:
    [problem] = plan(WEB, {**WEB, "name": "www", "service": "nginx-two"}, SHELL)["problems"]
    assert problem.startswith("client_consumers: web, www: 2 services of kind nginx would share one configuration: keep one, and give")
    [problem] = plan(WEB, SHELL, {**SHELL, "name": "more", "service": "ssh-two"})["problems"]
    assert problem == "client_consumers: shell, more: 2 services of kind sshd would share one configuration: keep one"
    assert plan(WEB, {**WEB, "name": "www", "kind": "openssl", "service": "nginx-two"})["problems"] == []


def test_input_that_is_none() -> None:
    with pytest.raises(AnsibleFilterError, match="not a list of mappings"):
        consumer_plan("web", hsms=[], client_library=CLIENT, way="engine")
    with pytest.raises(AnsibleFilterError, match="way: 'pkcs11' is unknown"):
        consumer_plan([], hsms=[], client_library=CLIENT, way="pkcs11")
