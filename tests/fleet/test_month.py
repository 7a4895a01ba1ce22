# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator's month with a KMS server and its two HSMs. Each test is an event: what the run says of it, the way out, and that nothing
is left to do. They follow each other."""

from __future__ import annotations

from fleet_fixture import sound
from month_fixture import ACCESS, Month, refused


def test_a_key_is_rotated(month: Month) -> None:
    before = month.tokens()
    with month.edited() as declared:
        declared["hsm_keys"][0]["keys"][1].update(generation=2, previous="deactivate")
    run = month.run("--tags", "keys")
    sound(run, kms1=2)
    assert run.tasks("kms1", "changed") == ["Keys of primary", ACCESS]
    assert "~ key tickets: state active -> deactivated\n+ key tickets@2: type AES, size 256" in run.output
    keys = month.tokens()["payments"]["keys"]
    # What the first one has protected is still opened.
    assert keys.pop("tickets@2") not in keys.values() and keys == before["payments"]["keys"]


def test_a_key_of_an_instance_is_destroyed_behind_our_back(month: Month) -> None:
    before = month.tokens()
    month.ssh("sudo cp -a /var/lib/softhsm/tokens /root/backup")
    month.destroy("payments", "dek-1")
    run = month.run("--tags", "keys")
    told = "hsm_keys[0].keys[0] (dek-1): 'dek-1' is gone from the token, and the registry has a record of it. Nothing was changed."
    refused(run, "Keys of primary", told, "Restore it from a backup, or say on_vanished: recreate to make another.")
    assert "dek-1" not in month.tokens()["payments"]["keys"]
    month.ssh("sudo cp -an /root/backup/. /var/lib/softhsm/tokens/ && sudo rm -r /root/backup")
    # Also of the rotation before.
    sound(month.run("--tags", "keys"), kms1=0)
    assert month.tokens() == before


def test_a_key_of_a_group_is_destroyed_behind_our_back(month: Month) -> None:
    before = month.tokens()
    month.destroy("payments", "pan-1")
    run = month.run("--tags", "keys,sync")
    told = "hsm_keys[1].keys[0] (pan-1): 'pan-1' is not on the token that serves, and the registry has a record of it."
    refused(run, "Keys of cards", told, "Copy it from the member that has it (--tags sync with hsm_sync_repair: wrap)")
    run = month.run("--tags", "sync")
    sound(run, kms1=2)
    assert run.tasks("kms1", "changed") == ["Sync group cards", ACCESS]
    sound(month.run("--tags", "keys,sync"), kms1=0)
    assert month.tokens() == before


def test_a_token_is_lost(month: Month) -> None:
    before = month.tokens()
    folder = month.folder_of("payments")
    month.ssh(f"sudo mv {folder} /root/away")
    run = month.run("--tags", "instances,keys,kms")
    told = f"hsm_instances[0].tokens[0] (label 'payments'): the registered token, serial {before['payments']['serial']}, is not there"
    refused(run, "Instance primary", told, "another one is not created in its place. Bring it back, or say allow_renumber: true")
    assert set(month.tokens()) == {"standby"}
    month.ssh(f"sudo mv /root/away {folder}")
    sound(month.run("--tags", "instances,keys"), kms1=0)
    assert month.tokens() == before


def test_the_order_of_instances_is_moved(month: Month) -> None:
    before = month.tokens(), month.served(), month.started()
    with month.edited() as declared:
        declared["hsm_instances"].reverse()
    run = month.run("--tags", "instances,kms")
    told = "hsm_instances: refused, instance 'standby' has hsm::softhsm2_1 by the order in which instances were registered here"
    refused(run, "Instance standby", told, "Keep the declared instances in their order, and put new ones at the end.")
    with month.edited() as declared:
        declared["hsm_instances"].reverse()
    assert (month.tokens(), month.served(), month.started()) == before
