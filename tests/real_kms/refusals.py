# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the server does with what kms_config and its role refuse: each is a row, and its docstring what was written or done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tomli_w
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.toml_text import parse
from hsm_fixture import ok

from . import server
from .kmip import Client, Refused
from .scene import Scene
from .steps import DATA, round_trip

Change = Callable[[dict[str, Any]], object]


@contextmanager
def changed(scene: Scene, change: Change, environment: dict[str, str] | None = None) -> Iterator[Client]:
    """The server on what kms_config wrote, changed by hand."""
    written = ok(scene.write())
    values = parse(scene.config.read_text())
    change(values)
    scene.config.chmod(0o600)
    scene.config.write_text(tomli_w.dumps(values))
    with scene.running({**written["unit"]["environment"], **(environment or {})}) as client:
        yield client


def status_of(scene: Scene, change: Change) -> list[tuple[str, int]]:
    """Prefixes that the server serves, and for each how many slots."""
    with changed(scene, change) as client:
        return sorted((one["prefix"], len(one["slots"])) for one in client.get("/hsm/status"))


def ends(scene: Scene, change: Change, environment: dict[str, str] | None = None) -> str:
    """The line that the server ends with."""
    try:
        with changed(scene, change, environment):
            pass
    except server.DidNotStart as error:
        said = str(error).replace(f"{scene.hsm.scratch}/", "").strip().splitlines()[-1]
        return f"does not start: … {said[-200:].partition(' ')[2]}"
    raise AssertionError("it started")


def refused(scene: Scene, operation: Callable[[], object]) -> str:
    """The server's words for it, from its log where the answer has none."""
    try:
        operation()
    except Refused:
        said = [match[1] for match in re.finditer(r"error_response. (\d+ .*)", server.plain(scene.log))]
        return said[-1].strip()[:160]
    raise AssertionError("it was done")


def misspelt_table(scene: Scene) -> str:
    """A misspelt table, `[[hsm_instance]]`"""
    found = status_of(scene, lambda values: values.update(hsm_instance=values.pop("hsm_instances")))
    assert not found, found
    return "starts, without HSMs"


def unknown_key(scene: Scene) -> str:
    """An unknown key in a known table"""
    return ends(scene, lambda values: values["http"].update(prot=1))


def flat_keys(scene: Scene) -> str:
    """Flat `hsm_*` keys beside the array"""

    def flat(values: dict[str, Any]) -> None:
        last = values["hsm_instances"].pop()
        values.update({name: last[name] for name in ("hsm_model", "hsm_admin", "hsm_slot", "hsm_password")})

    found = status_of(scene, flat)
    assert found == [("hsm", 1), ("hsm::softhsm2", 1)], found
    return "both count: " + ", ".join(f"`{prefix}`" for prefix, _slots in found)


def flat_keys_without_model(scene: Scene) -> str:
    """Flat keys without a model"""

    def flat(values: dict[str, Any]) -> None:
        last = values["hsm_instances"].pop()
        values.update({name: last[name] for name in ("hsm_admin", "hsm_slot", "hsm_password")})

    return ends(scene, flat)


def fewer_passwords(scene: Scene) -> str:
    """A slot without its password"""

    def drop(values: dict[str, Any]) -> None:
        first, second = values["hsm_instances"]
        first["hsm_slot"] += second["hsm_slot"]
        values["hsm_instances"] = [first]

    found = status_of(scene, drop)
    assert found == [("hsm::softhsm2", 1)], found
    return "starts, and drops the slot"


def no_slots(scene: Scene) -> str:
    """An instance without slots"""
    found = status_of(scene, lambda values: values["hsm_instances"][0].update(hsm_slot=[], hsm_password=[]))
    assert found == [("hsm::softhsm2", 1)], found
    return "skipped, and the next takes its number"


def admin_as_text(scene: Scene) -> str:
    """`hsm_admin` that is no list"""
    return ends(scene, lambda values: values["hsm_instances"][0].update(hsm_admin="operator"))


def no_library(scene: Scene) -> str:
    """A library that is not there"""
    return ends(scene, lambda _values: None, {"SOFTHSM2_PKCS11_LIB": "/nonexistent.so"})


def wrong_pin(scene: Scene) -> str:
    """A wrong PIN, and three requests for the keys of another token"""
    scene.keys({"label": "aes-pin", "type": "AES", "size": 256}, instance="second")
    spied, log = scene.hsm.spied()
    spy = {**spied.environment, "SOFTHSM2_PKCS11_LIB": spied.library}
    with changed(scene, lambda values: values["hsm_instances"][0].update(hsm_password=["0000"]), spy) as client:
        served = client.get("/hsm/status")
        assert all(slot["accessible"] for one in served for slot in one["slots"]), served

        log.write_text("")
        for _time in range(3):
            client.locate()
    refusals = log.read_text(errors="replace").count("CKR_PIN_INCORRECT")
    return f"starts, calls the slot accessible, and makes {refusals} refused logins"


def admin_nobody(scene: Scene) -> str:
    """Admins that nobody is: no `default_username`, no authentication"""
    with changed(scene, lambda values: values.pop("default_username")) as client:
        slot = client.get("/hsm/status")[0]["slots"][0]["slot_id"]
        return refused(scene, lambda: client.create(f"hsm::softhsm2::{slot}::of-nobody"))


def key_encryption_key(scene: Scene) -> str:
    """`key_encryption_key` with wrap and unwrap alone"""
    scene.keys({"label": "kek", "type": "AES", "size": 256, "operations": ["wrap", "unwrap"]})
    with scene.served() as (_client, starts):
        pass
    with changed(scene, lambda values: values.update(key_encryption_key=starts["first"] + "kek")) as client:
        return refused(scene, lambda: client.create(""))


def no_key_encryption_key(scene: Scene) -> str:
    """`key_encryption_key` that is not there"""
    with scene.served() as (_client, starts):
        pass
    with changed(scene, lambda values: values.update(key_encryption_key=starts["first"] + "nowhere")) as client:
        return "starts, then " + refused(scene, lambda: client.create(""))


def ec_keys(scene: Scene) -> str:
    """EC keys"""
    scene.keys({"label": "ec", "type": "EC", "curve": "P-256"})
    with scene.served() as (client, starts):
        return refused(scene, lambda: client.sign(starts["first"] + "ec", DATA))


def aes_192(scene: Scene) -> str:
    """AES keys of 192 bits"""
    scene.keys({"label": "aes-192", "type": "AES", "size": 192})
    with scene.served() as (client, starts):
        try:
            round_trip(client, starts["first"] + "aes-192")
        except Refused as error:
            return str(error)[:160]
    return "encrypts and decrypts"


def secret_without_backend(scene: Scene) -> str:
    """`secret://` without its backend"""
    with changed(scene, lambda values: values["hsm_instances"][0].update(hsm_password=["secret://pin"])) as client:
        served = client.get("/hsm/status")
        assert all(slot["accessible"] for one in served for slot in one["slots"]), served
    return "starts, and takes it for the PIN"


REFUSALS: list[Callable[[Scene], Any]] = [
    *(misspelt_table, unknown_key, flat_keys, flat_keys_without_model, fewer_passwords, no_slots, admin_as_text, no_library),
    *(wrong_pin, admin_nobody, key_encryption_key, no_key_encryption_key, ec_keys, aes_192, secret_without_backend),
]
