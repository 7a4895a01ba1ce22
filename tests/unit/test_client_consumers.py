# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that role client renders for its consumers, from plain values: what a shell and others read in them, and what goes of them."""

from __future__ import annotations

import configparser
import re
import subprocess
from typing import Any

import pytest
import role_values
from ansible_collections.keyfleet.hsm.plugins.filter.consumer_leavings import consumer_leavings
from consumer_files import planned, rendered

UNITS = "/etc/systemd/system"
COMMON: dict[str, Any] = {"hsm": "payments", "token": "card payments; rm", "pin_file": "/etc/keyfleet/pins/payments"}
WEB = {
    **COMMON,
    "name": "web",
    "kind": "nginx",
    "keys": [{"label": "web-tls@2", "certificate": "/srv/a"}, {"label": "b", "name": "b", "certificate": "/srv/b"}],
}
SHELL = {**COMMON, "name": "shell", "kind": "sshd", "keys": [{"label": "host key"}]}
MAIL = {**COMMON, "name": "mail", "kind": "openssl", "service": "postfix", "check": "127.0.0.1:465", "keys": [{"label": "mail"}]}
BAO = {**COMMON, "name": "bao", "kind": "openbao", "hsm": None, "library": "/opt/hsm/lib.so", "environment": {"HSM_CONF": "/etc/a b"}}
BAO |= {"keys": [{"label": "unseal"}], "seal_options": {"mechanism": "0x1085"}}
ALL = (WEB, SHELL, MAIL, BAO)
# What is made for each beside settings, keys and the notes of its state.
MADE = {
    "web": [
        *("openssl.cnf", "tls.conf", "tls.pem", "b.conf", "b.pem", "nginx", "/etc/nginx/modules-enabled/60-keyfleet-consumer.conf"),
        *(f"{UNITS}/nginx.service.d/keyfleet-consumer.conf", f"{UNITS}/keyfleet-watch-web.service"),
    ],
    "shell": [
        *("askpass", "host.pub", "/etc/ssh/sshd_config.d/10-keyfleet-consumer.conf", f"{UNITS}/ssh.service.d/keyfleet-consumer.conf"),
        *(f"{UNITS}/keyfleet-agent-shell.service", f"{UNITS}/keyfleet-watch-shell.service"),
    ],
    "mail": ["openssl.cnf", f"{UNITS}/postfix.service.d/keyfleet-consumer.conf", f"{UNITS}/keyfleet-watch-mail.service"],
    "bao": ["seal.hcl", f"{UNITS}/openbao.service.d/keyfleet-consumer.conf"],
}


def host(*consumers: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The files in the folders of consumers, and what settings and keys hold. Each has one of somebody else's, too."""
    paths, texts = [], {}
    for one in consumers:
        texts |= {f"{one['folder']}/{name}": rendered(name, one) for name in ("settings", "keys")}
        paths += [f"{one['folder']}/{name}" for name in ("settings", "keys", "mine.txt", *MADE[one["name"]]) if not name.startswith("/")]
    return paths, texts


@pytest.mark.parametrize("consumer", planned(*ALL), ids=lambda one: one["name"])
def test_a_shell_reads_what_was_declared(consumer: dict[str, Any]) -> None:
    names = ["KIND", "LIBRARY", "TOKEN", "PIN_FILE", "SERVICE", "HELD_BY", "WAY", "CHECK", "KEYS"]
    script = rendered("settings", consumer) + rendered("keys", consumer) + "\n".join(f'printf "%s\\n" "${name}"' for name in names)
    said = subprocess.run(["/bin/sh", "-eu"], input=script, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = [consumer[name.lower()] for name in names[:-1]]
    assert said == [*wanted, consumer["keys_line"]]


OF_DEBIAN = """# /usr/lib/systemd/system/nginx.service
[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=/usr/sbin/nginx -g 'daemon on; master_process on;'
"""
OURS = "[Service]\nExecStart=\nExecStart=@/usr/sbin/nginx /etc/keyfleet-consumers/web/nginx -g 'daemon on; master_process on;'\n"


@pytest.mark.parametrize(
    ("unit", "follows"),
    [
        ("", True),
        (OF_DEBIAN, True),
        (OF_DEBIAN + OURS, True),
        (OF_DEBIAN.replace(" -g 'daemon on; master_process on;'", ""), True),
        (OF_DEBIAN.replace("forking", "notify"), False),
        (OF_DEBIAN + "[Service]\nType=notify\n", False),
        (OF_DEBIAN + "[Service]\nExecStart=\nExecStart=@/usr/sbin/nginx mine\n", False),
        (OF_DEBIAN.replace("PIDFile", "#PIDFile"), False),
        (OF_DEBIAN + "[Service]\nExecStart=\nExecStart=/opt/nginx/sbin/nginx\n", False),
        (OF_DEBIAN.replace("-g 'daemon", "-c /etc/other.conf -g 'daemon"), False),
    ],
)
def test_another_nginx_takes_the_place_of_one_whose_unit_allows_it(unit: str, follows: bool) -> None:
    looks = [{"item": {"kind": "sshd"}, "stdout": "Type=notify"}, {"item": {"kind": "nginx"}, "stdout": unit}]
    assert role_values.rendered("client", "{{ client_consumer_nginx_follows }}", {"client_consumer_units": {"results": looks}}) is follows


def test_the_way_to_the_key_is_in_the_units_and_no_pin_is_anywhere() -> None:
    web, shell, _mail, bao = planned(*ALL)
    lines = rendered("service.conf", web, client_consumer_nginx_follows=True).splitlines()
    # The guard proves the PIN before nginx opens the key, and empty lines take what the package's unit says.
    guard = "+/usr/local/lib/keyfleet/consumer guard web"
    assert [line.partition("=")[2] for line in lines if line.startswith("ExecStartPre=")][:2] == ["", guard]
    assert [line.partition("=")[2] for line in lines if line.startswith("ExecReload=")][:2] == ["", f"{guard} reload"]
    started = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
    assert started == ["", "@/usr/sbin/nginx /etc/keyfleet-consumers/web/nginx -g 'daemon on; master_process on;'"]
    assert "ExecStart=" not in rendered("service.conf", web, client_consumer_nginx_follows=False)
    assert "Environment=OPENSSL_CONF=/etc/keyfleet-consumers/web/openssl.cnf" in lines
    agent = rendered("agent.service", shell)
    assert "ExecStart=/usr/bin/ssh-agent -D -a /run/keyfleet-agent-shell/agent.sock -P /usr/lib/p11-kit-client.so\n" in agent
    assert "EnvironmentFile=-/run/keyfleet-consumers/bao/environment\n" in rendered("service.conf", bao)
    public = ["ecdsa-sha2-nistp256 AAAAE2Vj+/= host key"]
    part = rendered("sshd.conf", shell, client_host_keys=["/etc/ssh/ssh_host_ed25519_key"], client_public_key=public)
    assert part.splitlines()[1:] == [
        "# AAAAE2Vj+/=",
        "HostKeyAgent /run/keyfleet-agent-shell/agent.sock",
        "HostKey /etc/keyfleet-consumers/shell/host.pub",
        "HostKey /etc/ssh/ssh_host_ed25519_key",
    ]


@pytest.mark.parametrize("way", ["engine", "provider"])
def test_openssl_and_nginx_get_the_library_and_the_key(way: str) -> None:
    (web,) = planned(WEB, way=way)
    read = configparser.ConfigParser()
    read.read_string("[first]\n" + rendered("openssl.cnf", web))
    section = read["provider_pkcs11" if way == "provider" else "engine_pkcs11"]
    assert "/usr/lib/p11-kit-client.so" in (section.get("pkcs11-module-path"), section.get("module_path"))
    first = rendered("nginx_key.conf", web, client_key=web["keys"][0])
    uri = "pkcs11:token=card%20payments%3B%20rm;object=web-tls%402;type=private"
    key = {
        "provider": "/etc/keyfleet-consumers/web/tls.pem.key",
        "engine": f'"engine:pkcs11:{uri}?pin-source=file:/run/keyfleet-consumers/web/pin"',
    }[way]
    assert first.splitlines()[1:] == ["ssl_certificate /etc/keyfleet-consumers/web/tls.pem;", f"ssl_certificate_key {key};"]
    environment = rendered("nginx_environment.conf", web).splitlines()
    assert environment[1:] == [
        "# nginx leaves its workers no variables but those that it is told of.",
        "env OPENSSL_CONF;",
        "env P11_KIT_SERVER_ADDRESS;",
    ]


def test_a_seal_has_all_but_the_pin() -> None:
    (bao,) = planned(BAO)
    text = rendered("seal.hcl", bao)
    body = re.search(r'^seal "pkcs11" \{\n((?:  \w+ = "[^"\n]*"\n)+)\}\n\Z', text, re.MULTILINE)
    assert body is not None, text
    assert dict(re.findall(r'(\w+) = "(.*)"', body[1])) == {
        "lib": "/opt/hsm/lib.so",
        "token_label": "card payments; rm",
        "key_label": "unseal",
        "mechanism": "0x1085",
    }


def test_what_is_declared_stays() -> None:
    plan = planned(*ALL)
    gone = consumer_leavings(plan, *host(*plan))
    assert gone == {name: False if name == "last" else [] for name in gone}


@pytest.mark.parametrize("name", MADE)
def test_all_that_was_made_for_one_goes_and_nothing_else(name: str) -> None:
    plan = planned(*ALL)
    left = [one for one in plan if one["name"] != name]
    gone = consumer_leavings(left, *host(*plan))
    folder = f"/etc/keyfleet-consumers/{name}"
    notes = [
        *(f"/var/lib/keyfleet-consumers/{name}.{end}" for end in ("failures", "halt", "proved", "uses")),
        f"/run/keyfleet-consumers/{name}",
    ]
    made = [path if path.startswith("/") else f"{folder}/{path}" for path in ("settings", "keys", *MADE[name])]
    assert sorted([*gone["files"], *gone["parts"]]) == sorted([*made, *notes])
    assert gone["names"] == [name] and gone["files"][-1] == f"{folder}/settings" and not gone["last"]
    assert [f"{UNITS}/{unit}.service" for unit in gone["units"]] == [path for path in reversed(MADE[name]) if path.endswith(".service")]
    assert gone["included"] == ([f"{folder}/b.conf", f"{folder}/tls.conf"] if name == "web" else [])
    assert (gone["nginx"], gone["sshd"]) == (["nginx"] if name == "web" else [], ["ssh"] if name == "shell" else [])
    assert consumer_leavings([], *host(*plan))["last"]


def test_another_name_another_key_and_another_service() -> None:
    (web,) = planned(WEB)
    # What both have in common is the new one's.
    gone = consumer_leavings(planned({**WEB, "name": "www"}), *host(web))
    assert gone["units"] == ["keyfleet-watch-web"] and gone["nginx"] == [] and "web/tls.conf" in gone["included"][1]
    assert not [path for path in gone["parts"] if "nginx" in path]
    gone = consumer_leavings(planned({**WEB, "keys": WEB["keys"][:1]}), *host(web))
    assert gone["files"] == ["/etc/keyfleet-consumers/web/b.conf", "/etc/keyfleet-consumers/web/b.pem"]
    assert gone["parts"] == gone["units"] == gone["names"] == []
    gone = consumer_leavings(planned({**WEB, "service": "nginx-two"}), *host(web))
    assert gone["parts"] == [f"{UNITS}/nginx.service.d/keyfleet-consumer.conf"] and gone["files"] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("KIND=nginx\nSERVICE=nginx\n", "settings was not written by this role: move the folder away"),
        (
            "# Written by the role keyfleet.hsm.client.\nKIND=nginx\nSERVICE='ngi",
            "settings does not tell what was made: declare web for one run more",
        ),
    ],
)
def test_what_is_not_understood_is_not_touched(text: str, problem: str) -> None:
    path = "/etc/keyfleet-consumers/web/settings"
    gone = consumer_leavings([], [path], {path: text})
    assert gone.pop("problems") == [f"client_consumers: /etc/keyfleet-consumers/web: {problem}"]
    assert not any(gone.values())
