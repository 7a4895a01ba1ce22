# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The month goes on: what an operator does to the fleet, and what happens to its hosts and PINs."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

from fleet_fixture import sound, text_of
from month_fixture import ACCESS, CANARIES, MACHINE, NEXT_PIN, PIN, WRITES_AND_STARTS, WRONG_PIN, Month, refused
from old_registry import downgrade

# In the place of the open gateway's health service, which no host of the month has: it is given a PIN in the same way. When it is
# stopped, it keeps what the PIN file holds then.
HEALTH = """
[Service]
LoadCredential=pin:/etc/keyfleet/pins/standby
ExecStart=/bin/sleep infinity
ExecStopPost=/bin/cp /etc/keyfleet/pins/standby /root/at-stop
[Install]
WantedBy=multi-user.target
"""


def new_token(label: str) -> str:
    return f"{{{{ new_token | combine({{'label': '{label}', 'pin_file': '/etc/keyfleet/pins/{label}'}}) }}}}"


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


ARCHIVE = {"name": "archive", "model": "softhsm2", "admins": ["ops@example.com"], "tokens": [new_token("archive")]}
CERTIFICATE = "Certificates web-tls of standby"
# A run without the vault, whose PINs are in their files on the host.
NO_VAULT: dict[str, Any] = {"new_token": {}}
# What a host has that is given a new system, but for the HSMs: their tokens are elsewhere.
WIPE = """
systemctl stop cosmian_kms; apt-mark unhold cosmian-kms-server; dpkg --purge cosmian-kms-server
rm -rf /opt/keyfleet /var/lib/keyfleet /etc/keyfleet /etc/cosmian /var/lib/cosmian /etc/systemd/system/cosmian_kms.service.d
systemctl daemon-reload; id
"""


def test_a_third_hsm_comes(month: Month) -> None:
    before, served = month.tokens(), month.served()
    with month.edited() as declared:
        declared["hsm_instances"].append(ARCHIVE)
        declared["hsm_keys"].append({"instance": "archive", "keys": [{"label": "old-1", "type": "AES"}]})
    run = month.run("--tags", "instances,keys,kms")
    sound(run, kms1=5)
    assert run.tasks("kms1", "changed") == ["Instance archive", "Keys of archive", ACCESS, *WRITES_AND_STARTS]
    after = month.tokens()
    assert list(after.pop("archive")["keys"]) == ["old-1"] and after == before
    # Behind the others, so that no stored UID points elsewhere.
    assert list(month.served().items())[:2] == list(served.items()) and len(month.served()) == 3


def test_the_last_hsm_goes_by_its_name_and_not_because_nobody_mentions_it(month: Month) -> None:
    before, served, started = month.tokens(), month.served(), month.started()
    with month.edited() as declared:
        declared["hsm_instances"].pop()
        declared["hsm_keys"].pop()
    run = month.run("--tags", "instances,kms")
    told = "hsm_instances: refused, the server would lose what is still referred to: token 'archive' of instance 'archive'"
    refused(run, "keyfleet.hsm.kms : Try the configuration", told, "To remove an instance, leave its entry and say state: absent there")
    assert "registered and not declared: instance 'archive'." in text_of(run)
    assert (month.served(), month.started()) == (served, started)
    run = month.run(playbook="keyfleet.hsm.remove_hsm", remove_hsm_instance="archive")
    assert run.code == 2 and "old-1" in text_of(run) and "remove_hsm_lose=old-1" in text_of(run), run.failures()
    assert (month.served(), month.started()) == (served, started)
    run = month.run(playbook="keyfleet.hsm.remove_hsm", remove_hsm_instance="archive", remove_hsm_lose="old-1")
    assert run.code == 0, run.failures()
    # The token is there with its key, and nothing is left to do.
    assert month.tokens() == before and list(month.served().items()) == list(served.items())[:2]
    sound(month.run("--tags", "instances,kms"), kms1=0)


def test_a_pin_is_changed(month: Month) -> None:
    before, started = month.tokens(), month.started()
    with month.edited() as declared:
        token = declared["hsm_instances"][1]["tokens"][0]
        declared["hsm_instances"][1]["tokens"] = [token.replace("'label'", "'new_pin': vault_next_pin, 'label'")]
    run = month.run("--tags", "instances,kms")
    sound(run, kms1=3)
    assert run.tasks("kms1", "changed") == ["Instance standby", *WRITES_AND_STARTS]
    assert month.tokens() == before
    assert list(month.served().values()) == [PIN, NEXT_PIN] and month.started() != started
    with month.edited() as declared:
        declared["hsm_instances"][1]["tokens"] = [token.replace("'label'", "'pin': vault_next_pin, 'label'")]
    sound(month.run("--tags", "instances,kms"), kms1=0)


def test_a_pin_is_rotated(month: Month) -> None:
    before, started = month.tokens(), month.started()
    run = month.run(playbook="keyfleet.hsm.rotate_pin", rotate_pin_instance="standby", rotate_pin_new=PIN)
    refused(run, "Check what is asked for", "is another PIN than rotate_pin_new. Put the new one into the vault first")
    with month.edited() as declared:
        [token] = declared["hsm_instances"][1]["tokens"]
        declared["hsm_instances"][1]["tokens"] = [token.replace("'pin': vault_next_pin, ", "")]
    unit = "/etc/systemd/system/keyfleet-gateway.service"
    month.ssh(f"echo '{HEALTH}' | sudo tee {unit} && sudo systemctl enable --now keyfleet-gateway")
    run = month.run(playbook="keyfleet.hsm.rotate_pin", rotate_pin_instance="standby", rotate_pin_new=PIN)
    assert run.code == 0, run.failures()
    # It was stopped while the old PIN was in force, and has the new one.
    shown = month.ssh("sudo cat /root/at-stop /run/credentials/keyfleet-gateway.service/pin; systemctl is-active keyfleet-gateway").stdout
    month.ssh(f"sudo systemctl disable --now keyfleet-gateway; sudo rm {unit}; sudo systemctl daemon-reload")
    assert shown.split() == [NEXT_PIN, PIN, "active"]
    assert month.tokens() == before and list(month.served().values()) == [PIN, PIN] and month.started() != started
    sound(month.run("--tags", "instances,kms"), kms1=0)


def test_a_wrong_pin_in_the_vault_costs_no_try(month: Month) -> None:
    before = month.tokens(), month.served(), month.started()
    run = month.run("--tags", "instances,kms", vault_pin=WRONG_PIN)
    told = "hsm_instances[0].tokens[0] (label 'payments').pin: differs from the PIN in /etc/keyfleet/pins/payments"
    refused(run, "Instance primary", told, "and is not tried. Leave pin out.")
    assert (month.tokens(), month.served(), month.started()) == before


def test_a_wrong_pin_in_the_file_costs_one_try_until_a_person_says_so(month: Month) -> None:
    before = month.tokens()
    path = "/etc/keyfleet/pins/payments"
    month.ssh(f"sudo cp -p {path} /root/pin && echo {WRONG_PIN} | sudo tee {path}")
    refused(month.run("--tags", "instances", **NO_VAULT), "Instance primary", "was refused (CKR_PIN_INCORRECT). It was tried once")
    month.ssh(f"sudo mv /root/pin {path}")
    told = "token 'payments' (slot", "No login was tried now.", "Then run once with hsm_allow_low_pin_count: true"
    refused(month.run("--tags", "instances", **NO_VAULT), "Instance primary", *told)
    assert {label: token["low"] for label, token in month.tokens().items()} == {"payments": True, "standby": False, "archive": False}
    sound(month.run("--tags", "instances", hsm_allow_low_pin_count=True, **NO_VAULT), kms1=0)
    assert month.tokens() == before


def test_a_pin_file_is_gone(month: Month) -> None:
    before = month.tokens(), month.served(), month.started()
    month.ssh("sudo rm /etc/keyfleet/pins/payments")
    told = "hsm_instances[0].tokens[0] (label 'payments').pin_file: /etc/keyfleet/pins/payments cannot be read: No such file or directory."
    run = month.run("--tags", "instances,kms", **NO_VAULT)
    refused(run, "Instance primary", told, "Create it (mode 0600), or give hsm_instance the PIN beside pin_file once, and it writes it.")
    run = month.run("--tags", "instances")
    sound(run, kms1=1)
    assert run.tasks("kms1", "changed") == ["Instance primary"]
    assert month.ssh("sudo cat /etc/keyfleet/pins/payments").stdout.strip() == PIN
    assert (month.tokens(), month.served(), month.started()) == before


def test_a_host_is_down(month: Month) -> None:
    nobody = month.address.rpartition(".")[0] + ".250"
    month.hosts(kms0=nobody, kms1=month.address)
    run = month.run("--tags", "instances")
    # It is the canary.
    assert (run.code, list(run.recap), run.recap["kms0"]["unreachable"]) == (4, ["kms0"], 1), run.failures()
    assert "fatal: [kms0]: UNREACHABLE!" in run.output and f"{nobody} port 22" in text_of(run)
    month.hosts(kms1=month.address, kms2=nobody)
    run = month.run("--tags", "instances")
    assert (run.code, run.changed()) == (4, {"kms1": 0, "kms2": 0}), run.failures()
    assert (run.recap["kms1"]["failed"], run.recap["kms2"]["unreachable"]) == (0, 1)
    month.hosts(kms1=month.address)


def test_standby_is_replaced(month: Month) -> None:
    """By a token in its entry. The old one answers, and keeps what it has."""
    before, served = month.tokens(), month.served()
    with month.edited() as declared:
        declared["hsm_instances"][1]["tokens"] = [new_token("standby-2")]
    run = month.run(playbook="keyfleet.hsm.replace_hsm", replace_hsm_old="standby")
    assert run.code == 0, run.failures()
    after = month.tokens()
    assert after.pop("standby-2")["keys"] == before["standby"]["keys"] and after == before
    (payments, pin), (slot, new_pin) = month.served().items()
    assert [(payments, pin)] == list(served.items())[:1] and slot not in served and new_pin == PIN
    sound(month.run("--tags", "instances,groups,keys,sync,kms"), kms1=0)


def test_primary_is_dead_and_replaced(month: Month) -> None:
    """By a token of its name. Keys that it alone had are given up by their names, and others take their place."""
    before, served = month.tokens(), month.served()
    month.ssh(f"sudo mv {month.folder_of('payments')} /root/dead")
    run = month.run(playbook="keyfleet.hsm.replace_hsm", replace_hsm_old="primary")
    told = "replace_hsm_lose: would be lost with instance 'primary': 'dek-1' (it is in no group, and only members of a group are copied)"
    refused(run, "Check that nothing is lost", told, "Or give them up by name: -e replace_hsm_lose=dek-1,tickets,tickets@2.")
    assert set(month.tokens()) == before.keys() - {"payments"} and month.served() == served
    run = month.run(playbook="keyfleet.hsm.replace_hsm", replace_hsm_old="primary", replace_hsm_lose="dek-1,tickets,tickets@2")
    assert run.code == 0, run.failures()
    after = month.tokens()
    assert after["payments"]["serial"] != before["payments"]["serial"]
    assert after["payments"]["keys"] == {"pan-1": before["payments"]["keys"]["pan-1"]}
    assert list(month.served())[1] == list(served)[1] and len(month.served()) == 2
    # No other key takes the place of one that was given up, until that is declared.
    with month.edited() as declared:
        for key in declared["hsm_keys"][0]["keys"]:
            key["on_vanished"] = "recreate"
    run = month.run("--tags", "keys")
    assert run.tasks("kms1", "changed") == ["Keys of primary", ACCESS], run.failures()
    with month.edited() as declared:
        for key in declared["hsm_keys"][0]["keys"]:
            del key["on_vanished"]
    sound(month.run("--tags", "instances,groups,keys,sync,kms"), kms1=0)


def test_the_registry_is_lost_and_there_is_a_backup(month: Month, tmp_path: Path) -> None:
    before, served, started = month.tokens(), month.served(), month.started()
    run = month.run(playbook="keyfleet.hsm.registry_backup", registry_backup_folder=str(tmp_path))
    assert run.code == 0 and (tmp_path / "kms1.db").exists(), run.failures()
    month.ssh("sudo sh -c 'rm /var/lib/keyfleet/registry.db*'")
    run = month.run(playbook="keyfleet.hsm.registry_restore", registry_backup_folder=str(tmp_path))
    assert run.code == 0, run.failures()
    sound(month.run("--tags", "instances,groups,keys,sync,kms"), kms1=0)
    assert (month.tokens(), month.served(), month.started()) == (before, served, started)


def test_the_registry_is_lost_and_there_is_none(month: Month, tmp_path: Path) -> None:
    """The exports in Git know what the tokens do not."""
    before, served, started = month.tokens(), month.served(), month.started()
    month.ssh("sudo mkdir /root/export")
    assert month.run("--tags", "sync", hsm_sync_export="/root/export").code == 0
    for name in month.ssh("sudo sh -c 'cd /root/export && ls'").stdout.split():
        (tmp_path / name).write_text(month.ssh(f"sudo cat /root/export/{name}").stdout)
    month.ssh("sudo sh -c 'rm -r /root/export /var/lib/keyfleet/registry.db*'")
    run = month.run(playbook="keyfleet.hsm.registry_rebuild", registry_rebuild_exports=f"{tmp_path}/*.yml")
    assert run.code == 0, run.failures()
    assert "tickets@2: generation 1 -> 2" in run.output
    # A group that takes its own keys alone takes one anew of which nothing was known to compare.
    run = month.run("--tags", "instances,groups,keys,sync,kms")
    assert run.code == 0 and set(run.tasks("kms1", "changed")) <= {"Keys of cards"}, run.failures()
    assert "+ key" not in run.output
    assert (month.tokens(), month.served(), month.started()) == (before, served, started)


def test_a_certificate_is_due(month: Month, tmp_path: Path) -> None:
    openssl(*f"req -x509 -newkey rsa:2048 -nodes -keyout {tmp_path}/ca.key -out {tmp_path}/ca.pem -days 365 -subj /CN=CA".split())
    # Stays for the runs of the tests that follow.
    folder = month.folder.parent / "certificates"
    folder.mkdir()
    request = folder / "kms1.standby.web-tls.csr"

    def issue(days: int) -> None:
        signed = f"x509 -req -in {request} -copy_extensions copy -CA {tmp_path}/ca.pem -CAkey {tmp_path}/ca.key -days {days}"
        openssl(*signed.split(), "-out", str(request.with_suffix(".pem")))

    with month.edited() as declared:
        declared["hsm_keys"].append(
            {"instance": "standby", "keys": [{"label": "web-tls", "type": "RSA", "size": 2048, "operations": ["sign", "verify"]}]}
        )
        web = {"instance": "standby", "key_label": "web-tls", "subject": {"CN": "web1.example.com"}, "renew_before": "30d"}
        declared.update(hsm_certificates=[web], hsm_certificates_dir=str(folder))
    run = month.run("--tags", "keys,certificates")
    assert run.tasks("kms1", "changed") == ["Keys of standby", CERTIFICATE, ACCESS], run.failures()
    assert "key 'web-tls' has no certificate yet: have its request signed." in text_of(run)
    issue(20)
    run = month.run("--tags", "certificates")
    assert run.tasks("kms1", "changed") == [CERTIFICATE, ACCESS], run.failures()
    assert "the certificate of key 'web-tls' expires at" in text_of(run) and "within renew_before: have a new one signed." in text_of(run)
    assert request.read_text().startswith("Replaces the certificate with the SHA-256 fingerprint ")
    issue(90)
    run = month.run("--tags", "certificates")
    assert run.tasks("kms1", "changed") == [CERTIFICATE, ACCESS], run.failures()
    run = month.run("--tags", "certificates")
    sound(run, kms1=0)
    assert "renew_before" not in text_of(run)


def test_a_host_is_given_a_new_system(month: Month) -> None:
    month.ssh("sudo rm -f /etc/keyfleet/pins/archive /etc/keyfleet/pins/standby")
    before, served = month.tokens(), month.served()
    month.ssh(f"sudo sh -c '{WIPE}'")
    run = month.run()
    assert run.code == 0, run.failures()
    assert "+ key" not in run.output and "~ key dek-1: virtual_key none -> recorded" in run.output
    assert (month.tokens(), month.served()) == (before, served)


def test_the_collection_is_upgraded(month: Month, tmp_path: Path) -> None:
    """The registry is as an earlier release has left it, which knew no layouts. And the host of the test before is done."""
    before, served = month.tokens(), month.served()
    path = tmp_path / "registry.db"
    path.write_bytes(b64decode(month.ssh("sudo base64 /var/lib/keyfleet/registry.db").stdout))
    downgrade(str(path), 6)
    copied = f"src={path} dest=/var/lib/keyfleet/registry.db mode=0600"
    done = month.fleet.ansible(MACHINE, "--become", "-m", "copy", "-a", copied)
    assert done.returncode == 0, done.stdout
    run = month.run()
    sound(run, kms1=1)
    assert run.tasks("kms1", "changed") == ["Instance standby"]
    assert (month.tokens(), month.served()) == (before, served)


def test_no_pin_is_in_what_the_runs_said(month: Month) -> None:
    """Of all runs of the month, also those that failed."""
    assert not [canary for run in month.runs for canary in CANARIES if canary in run.output]
