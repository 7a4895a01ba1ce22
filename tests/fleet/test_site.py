# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook site on a fleet of five bare hosts, from the first check to a wrong PIN. The tests follow each other.

The packages of the KMS server and the gateway are the doubles of tests/doubles. All else is real: hosts, systemd, SoftHSM2, HAProxy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_fixture import CHECKOUT, Fleet, Run, build_packages, sound, text_of
from process_watch import watched

HERE = Path(__file__).resolve().parent / "site"
HOSTS = {"kms1": "host1", "kms2": "host2", "gw1": "host3", "gw2": "host4", "lb1": "host5"}
TOKENS = {"kms1": ("payments", "standby"), "kms2": ("payments", "standby"), "gw1": ("gateway",), "gw2": ("gateway",)}
# Planted, and searched for at the end. No number that comes up by itself.
PIN, SO_PIN, WRONG_PIN = "640287315", "5920174836", "718839052"
CANARIES = (PIN, SO_PIN, WRONG_PIN)
# Label and flags of each token, by the library and without a login.
FLAGS = """
import json, pkcs11
slots = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_slots(token_present=True)
tokens = [slot.get_token() for slot in slots]
print(json.dumps({token.label: pkcs11.TokenFlag.USER_PIN_COUNT_LOW in token.flags for token in tokens if token.label}))
"""


@dataclass
class Site:
    fleet: Fleet
    folder: Path
    runs: list[Run] = field(default_factory=list)

    def run(self, *arguments: str, pin: str = PIN, meet: str = "", **extra: Any) -> Run:
        """The playbook as loud as people run it. PINs come from a file, as from a vault. Hosts that ``meet``: see the callback counted."""
        return self._run("-vvv", *arguments, pin=pin, extra=extra, environment={"KEYFLEET_MEET": meet})

    def run_quietly(self, *arguments: str, **extra: Any) -> tuple[Run, dict[str, int]]:
        """With the ansible.cfg of docs/fleet.md. Also how many tasks each host carried out."""
        (settings,) = re.findall(r"^# ansible.cfg\n(.*?)```", (CHECKOUT / "docs/fleet.md").read_text(), re.DOTALL | re.MULTILINE)
        config = self.folder.parent / "ansible.cfg"
        config.write_text(settings)
        run = self._run(*arguments, pin=PIN, extra=extra, environment={"ANSIBLE_CONFIG": str(config)})
        return run, self.counted()["remote"]

    def counted(self) -> dict[str, Any]:
        """What the callback counted has seen of the last run."""
        seen: dict[str, Any] = json.loads((self.folder.parent / "counted.json").read_text())
        return seen

    def at_once(self) -> list[set[str]]:
        """The hosts that an hsm_instance which may be throttled was at work for at the same moment, for each such moment."""
        return [set(hosts) for hosts in self.counted()["at_once"]]

    def _run(self, *arguments: str, pin: str, extra: dict[str, Any], environment: dict[str, str] | None = None) -> Run:
        (self.folder / "group_vars/hsm/vault.yml").write_text(yaml.safe_dump({"vault_pin": pin, "vault_so_pin": SO_PIN}))
        inventory = ["-i", str(self.folder / "inventory.yml"), "-i", str(self.folder / "addresses.yml")]
        counted = {
            "ANSIBLE_CALLBACKS_ENABLED": f"{os.environ['ANSIBLE_CALLBACKS_ENABLED']},counted",
            "KEYFLEET_COUNTED": str(self.folder.parent / "counted.json"),
        }
        environment = {**counted, **(environment or {})}
        run = self.fleet.playbook("keyfleet.hsm.site", *inventory, "--diff", *arguments, extra=extra, environment=environment)
        self.runs.append(run)
        # For whoever looks why a test failed.
        (self.folder / f"run-{len(self.runs)}.txt").write_text(run.output)
        return run

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / "group_vars" / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def ssh(self, host: str, command: str, *, sure: bool = True) -> subprocess.CompletedProcess[str]:
        return self.fleet.ssh(HOSTS[host], command, sure=sure)

    def python(self, host: str, code: str) -> str:
        self.ssh(host, f"cat >/tmp/code.py <<'END'\n{code}\nEND")
        return self.ssh(host, "sudo /opt/keyfleet/venv/bin/python /tmp/code.py").stdout

    def low(self) -> dict[str, list[str]]:
        """Of each host, the tokens whose flags say that a wrong PIN was tried."""
        found = {host: json.loads(self.python(host, FLAGS)) for host in TOKENS}
        assert {host: tuple(sorted(tokens)) for host, tokens in found.items()} == TOKENS
        return {host: [label for label, low in tokens.items() if low] for host, tokens in found.items()}


@pytest.fixture(scope="module")
def site(five: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Site:
    scratch = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE, scratch / "inventory")
    site = Site(five, scratch / "inventory")
    (site.folder / "group_vars/all.yml").write_text(yaml.safe_dump({"double_packages": build_packages(scratch)}))
    addresses = {name: {"ansible_host": five.addresses()[host]} for name, host in HOSTS.items()}
    (site.folder / "addresses.yml").write_text(yaml.safe_dump({"all": {"hosts": addresses}}))
    return site


# One of each kind, and both releases: what takes less time than all.
ONE_OF_EACH = ("kms1", "gw2", "lb1")


def test_the_first_check_passes_on_bare_hosts_and_changes_nothing(site: Site) -> None:
    for host in ONE_OF_EACH:
        site.ssh(host, "sudo touch /run/stamp")
    run = site.run("--check", "--limit", ",".join(ONE_OF_EACH), hsm_serial="100%")
    assert run.code == 0, run.failures()
    assert set(run.recap) == set(ONE_OF_EACH)
    assert "This host has no Python with the libraries that the modules need" in text_of(run)
    # Two are the test hosts' own: the cache of bytecode and what fills it, see host_bytecode.py.
    own = "-not -path '/var/cache/bytecode/*' -not -name 'sitecustomize.*.pyc'"
    newer = f"sudo find /etc /home /opt /root /srv /usr /var -xdev -newer /run/stamp -not -type d {own}"
    for host in ONE_OF_EACH:
        assert site.ssh(host, f"{newer} -not -path '*/.ansible/*' -not -path '/var/log/*'").stdout == ""


def test_the_fleet_converges_but_a_balancer_of_different_tokens(site: Site) -> None:
    """gw1 and gw2 make a token each, so that the same request would meet other keys on each of them."""
    # Rounds are longer where each host has processes of its own.
    with watched(*CANARIES, every=0.01) as watcher:
        run = site.run()
    assert watcher.looked > 1000 and watcher.seen == set()
    assert [host for host, counts in run.recap.items() if counts["failed"]] == ["lb1"], run.failures()
    assert all(run.recap[host]["changed"] > 5 for host in TOKENS)
    # The canary comes first and is done before any other begins.
    assert run.output.index("[kms1]") < run.output.index("included: keyfleet.hsm.kms for kms1") < run.output.index("[kms2]")
    assert not any(site.low().values())


def test_with_one_token_behind_both_gateways_all_converges_and_one_edited_key_is_the_only_change_elsewhere(site: Site) -> None:
    """The operator's step: a token of SoftHSM2 is a folder, which is brought from gw1 to gw2. With a real HSM both would reach the same."""
    token = site.ssh("gw1", "sudo tar -C /var/lib/softhsm/tokens -cf - . | base64 --wrap=0").stdout
    site.ssh("gw2", "sudo systemctl stop ftx-hmg; sudo rm -rf /var/lib/keyfleet; sudo find /var/lib/softhsm/tokens -mindepth 1 -delete")
    site.ssh("gw2", f"base64 -d <<'END' | sudo tar -C /var/lib/softhsm/tokens -xf -\n{token}\nEND")
    site.edit(
        "kms.yml",
        "{label: dek-1, type: AES, size: 256, operations: [encrypt, decrypt]}",
        "{label: dek-1, type: AES, operations: [decrypt]}",
    )
    run = site.run(hsm_serial="100%", meet="gw1 kms2")
    assert run.code == 0, run.failures()
    assert {host: run.tasks(host, "changed") for host in ("kms1", "kms2", "gw1")} == {
        "kms1": ["Keys of primary"],
        "kms2": ["Keys of primary"],
        "gw1": [],
    }
    changed = run.changed()
    assert (changed["kms1"], changed["kms2"], changed["gw1"]) == (1, 1, 0)
    assert changed["gw2"] > 0 and changed["lb1"] > 0
    # The gateways declare that they share their token, so one waits for the other. Who shares with nobody does not wait for who is at work.
    # (One that waits does so for the first of Ansible's processes, which may be at work for kms1: that one does not always meet kms2.)
    at_once = site.at_once()
    assert any({"gw1", "kms2"} <= hosts for hosts in at_once), at_once
    assert not any({"gw1", "gw2"} <= hosts for hosts in at_once), at_once
    # Without one that waits it does.
    run = site.run("--limit", "kms1,kms2", "--tags", "instances", hsm_serial="100%", meet="kms1 kms2")
    assert run.code == 0 and set(run.changed().values()) == {0}, run.failures()
    assert any({"kms1", "kms2"} <= hosts for hosts in site.at_once()), site.at_once()


# A key of the group, used by another program: on which token, and what.
USED = """
import pkcs11
label, data = {label!r}, bytes.fromhex({data!r})
token = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label=label)
with token.open(user_pin=open(f"/etc/keyfleet/pins/{{label}}").read().strip()) as session:
    key = session.get_key(label="pan-1", object_class=pkcs11.ObjectClass.SECRET_KEY)
    print(key.{action}(data, mechanism_param=bytes(16)).hex())
"""
SERVED = """
- hosts: host1
  become: true
  gather_facts: false
  tasks:
    - keyfleet.hsm.hsm_key:
        group: cards
        keys: [{label: pan-1, type: AES, size: 256, operations: [encrypt, decrypt]}]
      register: served
    - ansible.builtin.debug:
        msg: "served by {{ served.served_by.instance }}, {{ served.changed }}"
    # Nobody declares it: what comes of that, the tests below see.
    - keyfleet.hsm.hsm_group:
        name: stray
        connections: [{instance: standby}]
"""


def test_the_group_of_the_guide_fails_over(site: Site, tmp_path: Path) -> None:
    """What was encrypted on primary is decrypted on standby, when primary is gone."""
    data = b"4111 1111 1111 1111".hex()
    secret = site.python("kms1", USED.format(label="payments", data=data, action="encrypt")).strip()
    folder = site.ssh("kms1", "dirname $(sudo sh -c 'grep --text -l payments /var/lib/softhsm/tokens/*/token.object')").stdout.strip()
    site.ssh("kms1", f"sudo mv {folder} /root/away")
    play = tmp_path / "served.yml"
    play.write_text(SERVED)
    run = site.fleet.playbook(play)
    opened = site.python("kms1", USED.format(label="standby", data=secret, action="decrypt")).strip()
    site.ssh("kms1", f"sudo mv /root/away {folder}")
    assert run.code == 0 and "served by standby, False" in run.output, run.failures()
    assert opened == data


WRITTEN = "sudo sha256sum /etc/cosmian/kms.toml /var/lib/keyfleet/registry.db"


def test_a_new_instance_in_front_is_refused_before_there_is_a_token_for_it(site: Site) -> None:
    before = [site.ssh(host, WRITTEN).stdout for host in ("kms1", "kms2")]
    path = site.folder / "group_vars/kms.yml"
    text = path.read_text()
    declared = yaml.safe_load(text)
    fresh = {"label": "fresh", "initialize": True, "pin": PIN, "so_pin": SO_PIN, "pin_file": "/etc/keyfleet/pins/fresh"}
    declared["hsm_instances"].insert(0, {"name": "fresh", "model": "softhsm2", "tokens": [fresh]})
    path.write_text(yaml.safe_dump(declared))
    run = site.run()
    path.write_text(text)
    assert (run.code, run.recap["kms1"]["changed"], set(run.recap)) == (2, 0, {"kms1"})
    assert "hsm_instances: refused, instance 'fresh' has hsm::softhsm2_2 by the order in which" in text_of(run)
    # So is a variable that nothing reads, before anything is asked of the host.
    run = site.run(hsm_key=[])
    assert (run.code, run.recap["kms1"]["changed"]) == (2, 0)
    assert "hsm_key: unknown variable, did you mean hsm_keys?" in text_of(run)
    assert [site.ssh(host, WRITTEN).stdout for host in ("kms1", "kms2")] == before


def test_a_host_without_its_pin_file_fails_alone(site: Site) -> None:
    """The vault is not in this run, as it need not be once there are tokens. The PIN is in its file on each host."""
    site.ssh("kms2", "sudo mv /etc/keyfleet/pins/standby /root/standby")
    run = site.run("--limit", "kms1,kms2,gw1", "--tags", "instances,keys,status", tokens_may_be_new=False)
    site.ssh("kms2", "sudo mv /root/standby /etc/keyfleet/pins/standby")
    assert run.code == 2
    assert run.changed() == {"kms1": 0, "kms2": 0, "gw1": 0}
    assert [host for host, counts in run.recap.items() if counts["failed"]] == ["kms2"]
    assert run.tasks("kms2", "fatal") == ["Instance standby"]
    told = "hsm_instances[1].tokens[0] (label 'standby').pin_file: /etc/keyfleet/pins/standby cannot be read: No such file or directory."
    assert told in text_of(run)


# What another program of the host may do.
TRIES_A_WRONG_PIN = (
    "sudo /opt/keyfleet/venv/bin/python -c "
    "\"import pkcs11; pkcs11.lib('/usr/lib/softhsm/libsofthsm2.so').get_token(token_label='payments').open(user_pin='000000')\""
)


def test_a_wrong_pin_stops_at_the_canary_and_is_not_tried(site: Site) -> None:
    """The token is registered with a PIN file that holds another one."""
    run = site.run(pin=WRONG_PIN)
    assert run.code == 2 and set(run.recap) == {"kms1"}
    assert run.tasks("kms1", "fatal") == ["Instance primary"]
    assert "differs from the PIN in /etc/keyfleet/pins/payments" in text_of(run)
    assert not any(site.low().values())
    # Where the right one is in force, it stays: services that restart meanwhile go on.
    assert site.ssh("kms1", "sudo cat /etc/keyfleet/pins/payments").stdout.strip() == PIN
    assert site.ssh("kms1", TRIES_A_WRONG_PIN, sure=False).returncode != 0
    assert site.low() == {"kms1": ["payments"], "kms2": [], "gw1": [], "gw2": []}


def test_a_server_is_not_given_a_pin_that_nobody_may_prove(site: Site) -> None:
    """The token's flag speaks against a login, so the role kms alone stops, too, before it writes anything."""
    before = site.ssh("kms1", WRITTEN).stdout
    run = site.run("--limit", "kms1", "--tags", "kms")
    assert (run.code, run.changed()) == (2, {"kms1": 0})
    assert run.tasks("kms1", "fatal") == ["keyfleet.hsm.kms : Try the configuration"] and "No login was tried now" in text_of(run)
    assert site.low()["kms1"] == ["payments"] and site.ssh("kms1", WRITTEN).stdout == before


def test_with_the_right_pin_nothing_is_tried_until_a_person_says_so(site: Site) -> None:
    run = site.run("--limit", "kms1", "--tags", "instances,status")
    assert run.code == 2 and "No login was tried now" in text_of(run)
    assert site.low()["kms1"] == ["payments"]
    assert not any(low for host, low in site.low().items() if host != "kms1")


def test_with_the_right_pin_all_is_well_and_nothing_is_left_to_do(site: Site) -> None:
    """The run above has shown that of the others, but for the key that was edited."""
    run, remote = site.run_quietly("--limit", ",".join(ONE_OF_EACH), hsm_serial="100%", hsm_allow_low_pin_count=True)
    sound(run, **dict.fromkeys(ONE_OF_EACH, 0))
    # What docs/fleet.md says that this costs.
    assert all(counts["ok"] + counts["skipped"] <= 40 for counts in run.recap.values()) and max(remote.values()) <= 15, (run.recap, remote)
    assert len(run.output.splitlines()) <= 100, run.output
    assert "registered and not declared: group 'stray'." in text_of(run)
    assert not any(site.low().values())


def properties(site: Site, host: str, unit: str) -> dict[str, str]:
    names = "ActiveState,UnitFileState,Environment,ReadWritePaths,ProtectSystem,PrivateDevices,DevicePolicy,DeviceAllow,After,Wants"
    shown = site.ssh(host, f"systemctl show --property={names} {unit}").stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


@pytest.mark.parametrize("host", ["kms1", "kms2"])
def test_the_unit_of_the_kms_server_as_systemd_has_it(site: Site, host: str) -> None:
    unit = properties(site, host, "cosmian_kms")
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")
    assert "SOFTHSM2_PKCS11_LIB=/usr/lib/softhsm/libsofthsm2.so" in unit["Environment"].split()
    assert set(unit["ReadWritePaths"].split()) == {"/var/lib/cosmian", "/var/log/cosmian", "/var/lib/softhsm/tokens"}
    assert (unit["PrivateDevices"], unit["DevicePolicy"], unit["DeviceAllow"]) == ("no", "closed", "/dev/cs2.0 rw")
    assert unit["ProtectSystem"] == "strict"
    assert "network-online.target" in unit["After"].split() and "network-online.target" in unit["Wants"].split()


@pytest.mark.parametrize(("host", "unit"), [("gw1", "ftx-hmg"), ("gw2", "ftx-hmg"), ("lb1", "haproxy")])
def test_the_other_units_run_at_each_boot_and_after_the_network(site: Site, host: str, unit: str) -> None:
    shown = properties(site, host, unit)
    assert (shown["ActiveState"], shown["UnitFileState"]) == ("active", "enabled")
    assert "network-online.target" in shown["After"].split() and "network-online.target" in shown["Wants"].split()


def used(site: Site, host: str, unit: str, variable: str, label: str) -> subprocess.CompletedProcess[str]:
    """Whether the token can be used from inside the unit's sandbox."""
    site.ssh(host, f"cat >/tmp/open_token.py <<'END'\n{(HERE / 'open_token.py').read_text()}\nEND")
    return site.ssh(host, f"sudo python3 /tmp/open_token.py {unit} {variable} {label} /etc/keyfleet/pins/{label}", sure=False)


SERVICES = [
    ("kms1", "cosmian_kms", "SOFTHSM2_PKCS11_LIB", "payments"),
    ("kms2", "cosmian_kms", "SOFTHSM2_PKCS11_LIB", "standby"),
    ("gw1", "ftx-hmg", "PKCS11_LIB_PATH", "gateway"),
    ("gw2", "ftx-hmg", "PKCS11_LIB_PATH", "gateway"),
]


@pytest.mark.parametrize(("host", "unit", "variable", "label"), SERVICES)
def test_a_service_can_use_its_token(site: Site, host: str, unit: str, variable: str, label: str) -> None:
    done = used(site, host, unit, variable, label)
    assert done.returncode == 0, done.stderr


def test_without_the_path_in_the_drop_in_it_cannot(site: Site) -> None:
    """So what the test before sees is the drop-in's doing."""
    folder = "/run/systemd/system/cosmian_kms.service.d"
    reset = "[Service]\\nReadWritePaths=\\nReadWritePaths=/var/lib/cosmian /var/log/cosmian\\n"
    restart = "sudo systemctl daemon-reload && sudo systemctl restart cosmian_kms"
    site.ssh("kms1", f"sudo mkdir -p {folder} && printf '{reset}' | sudo tee {folder}/zz.conf && {restart}")
    done = used(site, "kms1", "cosmian_kms", "SOFTHSM2_PKCS11_LIB", "payments")
    site.ssh("kms1", f"sudo rm -r {folder} && {restart}")
    assert done.returncode != 0 and "pkcs11.exceptions" in done.stderr, done
    assert used(site, "kms1", "cosmian_kms", "SOFTHSM2_PKCS11_LIB", "payments").returncode == 0


def test_an_hsm_goes_by_its_name_and_not_because_nobody_mentions_it(site: Site) -> None:
    path = site.folder / "group_vars/kms.yml"
    declared = yaml.safe_load(path.read_text())
    declared["hsm_instances"].pop()
    declared["hsm_groups"][0]["connections"].pop()
    path.write_text(yaml.safe_dump(declared))
    before = site.ssh("kms1", WRITTEN).stdout
    run = site.run("--limit", "kms1", "--tags", "kms")
    assert (run.code, run.recap["kms1"]["changed"]) == (2, 0)
    assert "registered and not declared: instance 'standby', group 'stray'." in text_of(run)
    assert "hsm_instances: refused, the server would lose what is still referred to: token 'standby' of instance 'standby'" in text_of(run)
    assert "these groups have a connection to it: 'cards'" in text_of(run)
    assert site.ssh("kms1", WRITTEN).stdout == before
    declared["hsm_instances"].append({"name": "standby", "state": "absent", "force": True})
    path.write_text(yaml.safe_dump(declared))
    limit = ("--limit", "kms1", "--tags", "groups,instances,kms")
    checked, run = (site.run(*limit, *check, site_undeclared="remove") for check in (["--check"], []))
    assert (checked.code, run.code) == (0, 0), checked.failures() + run.failures()
    order = ("Groups that go stray", "Groups cards", "keyfleet.hsm.kms : Write the server's configuration", "Instances that go standby")
    assert tuple(task for task in run.tasks("kms1", "changed") if task in order) == order
    assert site.ssh("kms1", "sudo grep -c hsm_model /etc/cosmian/kms.toml").stdout == "1\n"
    # The token and its PIN are there.
    assert set(json.loads(site.python("kms1", FLAGS))) == set(TOKENS["kms1"])
    assert used(site, "kms1", "cosmian_kms", "SOFTHSM2_PKCS11_LIB", "standby").returncode == 0


# Where a PIN belongs: its own file, and the file of the server that needs it. Nobody but root can read either.
HELD = {
    "kms1": ["/etc/cosmian/kms.toml", "/etc/keyfleet/pins/payments", "/etc/keyfleet/pins/standby"],
    "kms2": ["/etc/cosmian/kms.toml", "/etc/keyfleet/pins/payments", "/etc/keyfleet/pins/standby"],
    "gw1": ["/etc/keyfleet/pins/gateway"],
    "gw2": ["/etc/keyfleet/pins/gateway"],
    "lb1": [],
}


@pytest.mark.parametrize("host", list(HOSTS))
def test_no_pin_is_in_a_file_of_a_host_or_its_journal(site: Site, host: str) -> None:
    pins = "\\n".join(CANARIES)
    site.ssh(host, f"sudo install -m 0600 /dev/null /run/pins; printf '{pins}\\n' | sudo tee /run/pins >/dev/null")
    search = "sudo grep --text --recursive --files-with-matches --fixed-strings --file=/run/pins"
    site.ssh(host, "sudo journalctl --no-pager --output=export | sudo tee /run/journal.txt >/dev/null")
    found = site.ssh(host, f"{search} /run/journal.txt /etc /home /opt /root /srv /tmp /var", sure=False).stdout
    site.ssh(host, "sudo rm /run/pins /run/journal.txt")
    assert sorted(found.split()) == HELD[host]
    modes = site.ssh(host, f"sudo stat --format '%a %U' {' '.join(HELD[host])}").stdout.splitlines() if HELD[host] else []
    assert set(modes) <= {"400 root", "600 root"}


# Characters that the text of Ansible's own log escapes.
AWKWARD = ("-", "\\s", "\t", "\n", "'\"", "\x1b[2J")
SECRETS = """
- hosts: host1
  become: true
  gather_facts: false
  tasks:
    - keyfleet.hsm.hsm_key:
        instance: payments
        pin: "{{ item }}"
        keys: [{label: imported, type: AES, source: {content: "{{ item }}", passphrase: "{{ item }}"}}]
      check_mode: "{{ checked }}"
      failed_when: false
      loop: "{{ awkward }}"
"""


def test_no_awkward_secret_reaches_the_journal(site: Site, tmp_path: Path) -> None:
    """The real journal, with Ansible's defaults."""
    play = tmp_path / "secrets.yml"
    play.write_text(SECRETS)
    asked = "sudo journalctl --no-pager --output=export --since "
    since = site.ssh("kms1", "date '+%Y-%m-%d %H:%M:%S'").stdout.strip()
    for check in (True, False):
        run = site.fleet.playbook(play, extra={"awkward": [f"Kx7391{between}qZ5520" for between in AWKWARD], "checked": check})
        assert run.code == 0, run.failures()
    logged = site.ssh("kms1", f"{asked} '{since}'").stdout
    assert "hsm_key" in logged and logged.count("Invoked with ") >= 2 * len(AWKWARD)
    assert "Kx7391" not in logged and "qZ5520" not in logged


def test_no_pin_is_in_what_the_runs_said(site: Site) -> None:
    """Of all runs above, also those that failed."""
    assert len(site.runs) >= 9
    for run in site.runs:
        for canary in CANARIES:
            at = run.output.find(canary)
            assert at < 0, run.output[max(0, at - 300) : at + 50]
