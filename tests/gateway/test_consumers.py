# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx and sshd of an application host use keys that are behind the gateway: they go on after its restart, and through a rotation."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleet_fixture import Run, text_of
from gateway_scene import GATEWAYS, PIN, PYTHON, Scene

HERE = Path(__file__).resolve().parent
PLAY = HERE / "consumers.yml"
SERVERS = ("host2", "host3")  # Debian 13, which opens keys with OpenSSL's provider, and Debian 12, with its engine
LOOP = "/opt/keyfleet-test/connect_in_a_loop.py"
GOOD_LOGIN = f"""
import pkcs11
with pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label="many").open(user_pin="{PIN}"):
    pass
"""
STATE = """
import sqlite3
found = sqlite3.connect("/var/lib/keyfleet/registry.db").execute("SELECT state FROM virtual_key WHERE label = 'web'")
print(",".join(sorted({state for state, in found})))
"""
# Half a request before the reloads, and the rest after them.
HALF_A_REQUEST = """
import socket, ssl, subprocess
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection(("127.0.0.1", 443), timeout=50) as plain, context.wrap_socket(plain) as made:
    made.sendall(b"GET / HTTP/1.1\\r\\nHost: web.test\\r\\n")
    for _turn in range(2):
        print(subprocess.run(["systemctl", "reload", "nginx"], check=False).returncode)
    made.sendall(b"Connection: close\\r\\n\\r\\n")
    print(made.makefile("rb").readline().decode())
"""
READS = "/run/keyfleet-consumers/web/reads"
SCRIPT = "/usr/local/lib/keyfleet/consumer"
PIN_FILE = "/etc/keyfleet/pins/of-consumers"


@pytest.fixture(scope="module")
def served(scene: Scene) -> Iterator[Scene]:
    run = scene.play(PLAY)
    assert run.code == 0, run.failures()
    for host in SERVERS:
        scene.ssh(host, "sudo mkdir -p /opt/keyfleet-test")
        scene.put(host, LOOP, (HERE / "connect_in_a_loop.py").read_text())
    yield scene
    for host in SERVERS:
        scene.ssh(host, "sudo systemctl stop keyfleet-watch-web keyfleet-watch-shell nginx", sure=False)
    scene.ssh(GATEWAYS[0], "sudo systemctl stop keyfleet-watch-web nginx", sure=False)


def certificate(scene: Scene, label: str) -> str:
    """The fingerprint of what the token's key was given."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert((scene.folder / f"{label}.pem").read_text())).hexdigest()


def log_in_by_ssh(scene: Scene, host: str) -> subprocess.CompletedProcess[str]:
    """With the key of the token as the only one that this client knows, and as its only algorithm."""
    listed = scene.ssh(GATEWAYS[0], "sudo ssh-keygen -D /usr/lib/softhsm/libsofthsm2.so").stdout
    known = scene.folder / f"known_{host}"
    variables = scene.fleet.variables()[host]
    known.write_text("".join(f"{variables['ansible_host']} {line}\n" for line in listed.splitlines() if line.endswith(" shell")))
    options = ["HostKeyAlgorithms=ecdsa-sha2-nistp256", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    command = ["ssh", "-F", "/dev/null", "-v", "-i", variables["ansible_ssh_private_key_file"]]
    for option in options:
        command += ["-o", option]
    return subprocess.run([*command, f"admin@{variables['ansible_host']}", "true"], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def handshakes(scene: Scene) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """The loop on each server, and what came of it so far."""
    for host in SERVERS:
        command = f"{PYTHON} {LOOP} 127.0.0.1 /opt/keyfleet-test/connected"
        scene.ssh(host, f"sudo systemd-run --quiet --collect --unit=keyfleet-test-connect {command}")
    try:
        yield lambda host: [
            json.loads(line)
            for line in scene.ssh(host, "sudo cat /opt/keyfleet-test/connected").stdout.splitlines(True)
            if line.endswith("\n")
        ]
    finally:
        for host in SERVERS:
            scene.ssh(host, "sudo systemctl stop keyfleet-test-connect", sure=False)


def start(scene: Scene, host: str) -> str:
    """Which start of nginx it is. A reload puts another process in its place, and systemd knows it for the same service."""
    told: dict[str, str] = {}

    def reloaded(name: str) -> bool:
        for line in scene.ssh(name, "systemctl show nginx").stdout.splitlines():
            what, _sign, value = line.partition("=")
            told[what] = value
        return told["ActiveState"] != "reloading"

    wait("the process before has ended", reloaded, host)
    assert told["ActiveState"] == "active" and told["MainPID"] == scene.ssh(host, "cat /run/nginx.pid").stdout.strip(), told
    return told["InvocationID"]


def in_vain(scene: Scene, host: str) -> int:
    """How often a PIN was tried in vain for nginx."""
    return scene.ssh(host, "sudo journalctl -o cat -u nginx").stdout.count("CKR_PIN_INCORRECT")


def wait(what: str, seen: Callable[[str], Any], host: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not seen(host):
        assert time.monotonic() < until, (host, what)
        time.sleep(0.5)


def pins_in_sight(scene: Scene, host: str) -> str:
    """Files of the consumers with the PIN that others than root may read, and processes that show it."""
    return scene.ssh(
        host,
        "sudo sh -c 'find /etc/keyfleet-consumers /etc/systemd/system /etc/nginx /etc/ssh /var/lib/keyfleet-consumers -type f "
        "-exec grep -l 271828 {} +; find /run/keyfleet-consumers -type f -perm /077 -exec grep -l 271828 {} +; "
        'for each in /proc/[0-9]*; do ! tr "\\0" " " <$each/cmdline 2>/dev/null | grep 271828 | grep -v grep; done; '
        "journalctl --no-pager -u nginx -u keyfleet-agent-shell -u keyfleet-watch-web -u keyfleet-watch-shell | grep 271828; true'",
    ).stdout


@pytest.mark.parametrize("host", SERVERS)
def test_tls_and_ssh_with_keys_behind_the_gateway(served: Scene, host: str) -> None:
    said = served.ssh(host, "openssl s_client -connect 127.0.0.1:443 </dev/null 2>&1").stdout
    assert re.search(r"TLSv1\.3, Cipher", said) and "CN" in said and "web" in said, said
    done = log_in_by_ssh(served, host)
    assert done.returncode == 0 and "is known and matches the ECDSA host key" in done.stderr, done.stderr
    assert pins_in_sight(served, host) == ""


def test_a_key_in_the_hsm_of_the_host_itself(served: Scene) -> None:
    said = served.ssh(GATEWAYS[0], "openssl s_client -connect 127.0.0.1:443 </dev/null 2>&1").stdout
    assert re.search(r"TLSv1\.3, Cipher", said) and re.search(r"subject=CN ?= ?own", said), said
    assert "pkcs11:token=own;object=own;type=private" in served.ssh(GATEWAYS[0], "cat /var/lib/keyfleet-consumers/web.uses").stdout
    assert pins_in_sight(served, GATEWAYS[0]) == ""
    # Nobody else is asked about it: the module reads the note itself.
    rotated = [{"label": "own", "type": "EC", "generation": 2, "previous": "destroy"}]
    given = json.dumps({"registry": "/var/lib/keyfleet-own/registry.db", "instance": "own", "keys": rotated})
    done = served.fleet.ansible(GATEWAYS[0], "--become", "--check", "-m", "keyfleet.hsm.hsm_key", "-a", given)
    told = "key 'own' stays as it is until services use 'own@2': services of 'this host' use it."
    assert told in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr


def test_a_second_run_changes_nothing(served: Scene) -> None:
    run = served.play(PLAY)
    assert run.code == 0, run.failures()
    assert run.changed() == dict.fromkeys(("host1", *SERVERS), 0), {host: run.tasks(host, "changed") for host in SERVERS}


def test_a_certificate_of_another_key_is_refused_and_nothing_is_changed(served: Scene) -> None:
    follows = [{"label": "web", "generation": "current", "certificate": str(served.folder / "own.pem")}]
    # Without a login nobody knows that there is no other public key.
    for check, said in (
        (("--check",), "without a login no public key is seen from this host that is the certificate's"),
        ((), "own.pem matches no generation of web on the token. Public keys of it there: web. Give the certificate of one of them."),
    ):
        run = served.play(PLAY, *check, "--limit", SERVERS[0], web_keys=follows)
        assert bool(run.code) is not bool(check) and said in text_of(run), run.output[-3000:]
        assert [task for task in run.tasks(SERVERS[0], "changed") if "KEYS" in task] == []


def test_users_and_groups_who_are_not_there_are_refused_and_not_made(served: Scene) -> None:
    said = "client_users: 'www-dta' is not a user of this host. Create it first, or correct the name."
    for check in (("--check",), ()):
        run = served.play(PLAY, *check, "--limit", SERVERS[0], client_users=["daemon", "www-dta"])
        assert bool(run.code) is not bool(check) and said in text_of(run), run.output[-3000:]
    assert served.ssh(SERVERS[0], "getent passwd www-dta", sure=False).stdout == ""
    assert "keyfleet-client" not in served.ssh(SERVERS[0], "id daemon").stdout


def test_sshd_that_was_started_before_its_agent_offers_the_key_when_the_agent_has_it(served: Scene) -> None:
    served.ssh(GATEWAYS[0], "sudo systemctl stop keyfleet-hsm@many keyfleet-front@many")
    try:
        for host in SERVERS:
            # sshd wants the agent, which does not start without the token.
            served.ssh(host, "sudo systemctl stop keyfleet-agent-shell && sudo systemctl restart ssh")
            assert served.ssh(host, "systemctl is-active keyfleet-agent-shell", sure=False).stdout.strip() != "active"
            assert log_in_by_ssh(served, host).returncode != 0
    finally:
        served.ssh(GATEWAYS[0], "sudo systemctl start keyfleet-hsm@many keyfleet-front@many")
    for host in SERVERS:
        wait("ssh", lambda name: log_in_by_ssh(served, name).returncode == 0, host)
        assert "ssh has not read its configuration" in served.ssh(host, "sudo journalctl -o cat -u keyfleet-watch-shell").stdout


# The second loss of nginx, after the one before. A restart would be another start.
def test_both_go_on_when_the_gateway_was_restarted(served: Scene) -> None:
    def good(host: str) -> bool:
        last = [row for row in rows(host) if row["at"] > restarted][-20:]
        return len(last) == 20 and all("certificate" in row for row in last)

    with handshakes(served) as rows:
        for host in SERVERS:
            wait("the loop runs", lambda name: len(rows(name)) > 10, host)
        before = {host: start(served, host) for host in SERVERS}
        # Connections of all clients end with it.
        served.ssh(GATEWAYS[0], "sudo systemctl restart keyfleet-hsm@many")
        restarted = time.time()
        for host in SERVERS:
            wait("twenty good ones in a row", good, host)
            wait("ssh", lambda name: log_in_by_ssh(served, name).returncode == 0, host)
            assert start(served, host) == before[host]
    again = {host: served.ssh(host, "sudo journalctl -o cat -u keyfleet-watch-web -u keyfleet-watch-shell").stdout for host in SERVERS}
    assert all("keyfleet-agent-shell cannot use its key" in text for text in again.values()), again


def end_the_first(scene: Scene, users: str) -> tuple[Run, str]:
    """The generation before, by site, which asks ``users`` first: the run, and the state of that key afterwards."""
    keys = [{"label": "web", "type": "EC", "curve": "P-256", "operations": ["sign", "verify"], "previous": "deactivate", "enforce": True}]
    run = scene.play(
        "keyfleet.hsm.site",
        *("-i", "gone,", "--tags", "keys"),
        hsm_hosts=GATEWAYS[0],
        hsm_application_hosts=users,
        hsm_keys=[{"instance": "many", "keys": keys}],
    )
    return run, scene.python(GATEWAYS[0], STATE).strip()


def test_no_handshake_fails_in_a_rotation_and_the_old_key_ends_with_the_last_that_uses_it(served: Scene) -> None:
    first, last = SERVERS
    with handshakes(served) as rows:
        for host in SERVERS:
            wait("the loop runs", lambda name: len(rows(name)) > 10, host)
        before = {host: start(served, host) for host in SERVERS}
        run = served.play(PLAY, "--limit", f"{GATEWAYS[0]},{first}", generation=2)
        assert run.code == 0, run.failures()
        run, state = end_the_first(served, f"{first}:{last}")
        waits = "key 'web' stays as it is until services use 'web@2': "
        assert state == "active" and f"{waits}services of '{last}' use it." in text_of(run), run.output
        # The declaration is as it was: the certificate is another one.
        checked = served.play(PLAY, "--check", "--diff", "--limit", f"{GATEWAYS[0]},{last}", generation=2)
        assert checked.code == 0 and re.search(r"^\+KEYS=.*object=web%402", checked.output, re.MULTILINE), checked.output[-3000:]
        run = served.play(PLAY, generation=2)
        assert run.code == 0, run.failures()
        planned = checked.tasks(last, "changed")
        assert planned and [task for task in run.tasks(last, "changed") if task in planned] == planned, run.tasks(last, "changed")
        # Silence is no consent.
        run, state = end_the_first(served, f"{first}:{last}:gone")
        assert state == "active" and f"{waits}nobody knows whether services of 'gone' use it." in text_of(run), run.output
        run, state = end_the_first(served, f"{first}:{last}")
        assert state == "deactivated" and run.code == 0, run.failures()
        new = certificate(served, "web@2")
        for host in SERVERS:
            wait("the new certificate", lambda name: {row.get("certificate") for row in rows(name)[-10:]} == {new}, host)
        found = {host: rows(host) for host in SERVERS}
    for host in SERVERS:
        assert [row for row in found[host] if "error" in row] == []
        assert {row["certificate"] for row in found[host]} == {certificate(served, "web"), new}
        assert start(served, host) == before[host]


@pytest.mark.parametrize("host", SERVERS)
def test_a_client_is_served_to_its_end_while_nginx_is_reloaded_twice(served: Scene, host: str) -> None:
    before = start(served, host)
    assert served.python(host, HALF_A_REQUEST).split() == ["0", "0", "HTTP/1.1", "200", "OK"]
    wait("the process before ends", lambda name: served.ssh(name, "ls /run/nginx.pid.oldbin", sure=False).returncode, host)
    assert start(served, host) == before
    assert "still serves clients" in served.ssh(host, "sudo journalctl -o cat -u nginx -n 50").stdout
    # Nothing of it is left for the next.
    assert served.ssh(host, "sudo systemctl reload nginx", sure=False).returncode == 0 and start(served, host) == before


@pytest.mark.parametrize("host", SERVERS)
def test_a_reload_that_was_cut_off_is_made_good_by_the_next(served: Scene, host: str) -> None:
    served.ssh(host, f"sudo sh -c 'mv {READS} {READS}.given && kill -USR2 $(cat /run/nginx.pid)'")
    wait("two of them", lambda name: served.ssh(name, "cat /run/nginx.pid /run/nginx.pid.oldbin", sure=False).returncode == 0, host)
    assert served.ssh(host, f"sudo {SCRIPT} due web").stdout == "reload\n"
    run = served.play(PLAY, "--limit", f"{GATEWAYS[0]},{host}", generation=2)
    assert run.code == 0, run.failures()
    assert served.ssh(host, "ls /run/nginx.pid.oldbin", sure=False).returncode
    assert start(served, host) and served.ssh(host, f"sudo {SCRIPT} due web").stdout == ""


@pytest.mark.parametrize("host", SERVERS)
def test_a_wrong_pin_is_tried_once_and_what_runs_goes_on(served: Scene, host: str) -> None:
    served.ssh(host, f"sudo cp -p {PIN_FILE} {PIN_FILE}.kept; printf 141421 | sudo tee {PIN_FILE} >/dev/null")
    before = in_vain(served, host)
    try:
        refused = served.ssh(host, "sudo systemctl reload nginx", sure=False)
        again = served.ssh(host, "sudo systemctl reload nginx", sure=False)
        journal = served.ssh(host, "sudo journalctl -o cat -u nginx -n 30").stdout
        assert refused.returncode and again.returncode
        assert in_vain(served, host) == before + 1, journal
        assert "nothing was tried" in journal or "it is not tried again" in journal, journal
        assert served.ssh(host, "openssl s_client -connect 127.0.0.1:443 </dev/null", sure=False).returncode == 0
    finally:
        served.ssh(host, f"sudo mv {PIN_FILE}.kept {PIN_FILE}; sudo touch {PIN_FILE}")
    # A person finds out which PIN is right, and logs in with it once.
    served.python(GATEWAYS[0], GOOD_LOGIN)
    wait("it is taken again", lambda name: served.ssh(name, "sudo systemctl reload nginx", sure=False).returncode == 0, host)


def made(scene: Scene, host: str) -> set[str]:
    """What is on the host of consumers: files by their names, and units that systemd knows."""
    names = r"-path '*keyfleet-consumer*' -o -path '*/keyfleet/consumer' -o -name 'keyfleet-watch-*' -o -name 'keyfleet-agent-*'"
    found = scene.ssh(
        host, rf"sudo find /etc /usr/local/lib /var/lib /run -path /run/systemd -prune -o \( {names} \) -print"
    ).stdout.split()
    units = scene.ssh(
        host, "systemctl list-units --all --plain --no-legend 'keyfleet-watch-*' 'keyfleet-agent-*' | cut -d' ' -f1"
    ).stdout.split()
    return {*found, *units}


def test_what_is_not_declared_any_more_goes_and_nothing_else(served: Scene) -> None:
    host = SERVERS[0]
    alone = ("--limit", f"{GATEWAYS[0]},{host}")
    before = {name: made(served, name) for name in SERVERS}
    refused = served.play(PLAY, *alone, generation=2, wanted=["shell"], site_stays=True)
    assert refused.code and "Take the include out first. Nothing was changed." in text_of(refused), refused.output[-3000:]
    assert made(served, host) == before[host]
    checked = served.play(PLAY, *alone, "--check", generation=2, wanted=["shell"])
    assert checked.code == 0, checked.failures()
    run = served.play(PLAY, *alone, generation=2, wanted=["shell"])
    assert run.code == 0, run.failures()
    left = made(served, host)
    assert left < before[host] and not [path for path in left if "web" in path or "nginx" in path], left
    assert not [path for path in before[host] - left if "shell" in path or "ssh" in path], before[host] - left
    assert run.tasks(host, "changed") and run.tasks(host, "changed") == checked.tasks(host, "changed")
    fetch = f"{PYTHON} -c 'from urllib.request import urlopen; print(urlopen(\"http://127.0.0.1/\").read())'"
    assert "here" in served.ssh(host, fetch).stdout and log_in_by_ssh(served, host).returncode == 0
    run = served.play(PLAY, generation=2, wanted=[])
    assert run.code == 0, run.failures()
    for name in (GATEWAYS[0], *SERVERS):
        assert made(served, name) == set()
    for name in SERVERS:
        assert "ssh_host_" in served.ssh(name, "sudo sshd -T | grep -i '^hostkey '").stdout
        assert served.ssh(name, f"sudo ls {PIN_FILE}").stdout.strip() == PIN_FILE
    again = served.play(PLAY, generation=2, wanted=[])
    assert again.changed() == dict.fromkeys(("host1", *SERVERS), 0), {name: again.tasks(name, "changed") for name in again.recap}
