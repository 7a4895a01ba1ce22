# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is there, as seen by other code than the collection's: bare python-pkcs11 on the tokens, sqlite3 on the registry, the files."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pkcs11
from hsm_fixture import SOFTHSM
from pkcs11 import Attribute

_READ = """CLASS KEY_TYPE LABEL ID SENSITIVE EXTRACTABLE MODIFIABLE DESTROYABLE PRIVATE LOCAL ENCRYPT DECRYPT SIGN VERIFY WRAP UNWRAP
DERIVE VALUE_LEN"""
_VALUES = ("MODULUS", "EC_POINT", "VALUE")
_RECORDS = """SELECT label, kind, hex(key_id), type, operations, state, generation, group_id IS NOT NULL FROM virtual_key
ORDER BY 1, 2, 3"""
_TOKENS = "SELECT instance.name, token.label FROM token JOIN instance ON instance.id = instance_id ORDER BY 1, 2"


@dataclass(frozen=True)
class View:
    """What was there at one moment. ``objects`` are the tokens' with all that tells one from another; ``pins`` the PIN in force of each
    token, ``records`` and ``tokens`` are the registry's, ``files`` the digests of the files that a run may write."""

    objects: tuple[str, ...]
    pins: tuple[str, ...]
    records: tuple[str, ...]
    tokens: tuple[str, ...]
    files: tuple[str, ...]

    def without_values(self) -> View:
        """The same, but for what is another each time that it is made."""
        objects = tuple(sorted(json.dumps({**json.loads(item), "value": None}, sort_keys=True) for item in self.objects))
        files = tuple(name.partition(" ")[0] for name in self.files)
        return View(objects, self.pins, self.records, self.tokens, files)

    def of(self, labels: Sequence[str]) -> list[str]:
        """The objects with one of these labels."""
        return [item for item in self.objects if json.loads(item)["LABEL"] in labels]

    def labels(self) -> set[str]:
        return {json.loads(item)["LABEL"] for item in self.objects}


def look(folders: Sequence[Path], pins: Sequence[str], registry: Path, files: Sequence[Path]) -> View:
    """``folders`` are those of the tokens' configurations; ``pins`` those that may be in force, the likeliest first."""
    objects, good = [], []
    for folder in folders:
        found, of_tokens = _in_a_fork(folder, pins)
        objects += found
        good += of_tokens
    records, tokens = (_rows(registry, query) for query in (_RECORDS, _TOKENS))
    digests = [f"{path.name} {sha256(path.read_bytes()).hexdigest()}" for path in files if path.exists()]
    return View(tuple(sorted(objects)), tuple(sorted(good)), tuple(records), tuple(tokens), tuple(digests))


def vouched_for(registry: Path) -> int:
    """How many copies of runs that were cut off a later run has vouched for, by the registry's events."""
    query = "SELECT id FROM event WHERE action = 'copy_key' AND json_extract(details, '$.finished')"
    return len(_rows(registry, query))


def _rows(registry: Path, query: str) -> list[str]:
    if not registry.exists():
        return []
    with closing(sqlite3.connect(f"file:{registry}?mode=ro", uri=True)) as database:
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []  # a run died before it had made the tables
        return [json.dumps(row) for row in database.execute(query)]


def _in_a_fork(folder: Path, pins: Sequence[str]) -> tuple[list[str], list[str]]:
    """SoftHSM reads its configuration once in a process, so each look has one of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
            with open(writing, "w", encoding="utf-8") as pipe:
                json.dump(_look(pins), pipe)
        finally:
            if sys.exc_info()[0] is not None:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, "the other program could not look at the token"
    found = json.loads(text)
    return found["objects"], found["pins"]


def _look(pins: Sequence[str]) -> dict[str, list[str]]:
    objects, good = [], []
    for slot in pkcs11.lib(SOFTHSM).get_slots():
        token = slot.get_token()
        if pkcs11.TokenFlag.TOKEN_INITIALIZED not in token.flags:
            continue
        if pkcs11.TokenFlag.USER_PIN_INITIALIZED not in token.flags:
            good.append(f"{token.label}: none")
            continue
        session, pin = _login(token, pins)
        good.append(f"{token.label}: {pin}")
        with session:
            for on_token in (True, False):
                for raw in list(session.get_objects({Attribute.TOKEN: on_token})):
                    objects.append(json.dumps({"token": token.label, "on_token": on_token, **_described(raw)}, sort_keys=True))
    return {"objects": objects, "pins": good}


def _login(token: Any, pins: Sequence[str]) -> tuple[Any, str]:
    for pin in pins:
        with suppress(pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange):
            return token.open(rw=True, user_pin=pin), pin
    raise AssertionError(f"none of the PINs opens token {token.label}")


def _read(raw: Any, names: Sequence[str]) -> dict[str, Any]:
    """Those that the token gives; python-pkcs11 raises one of these for an attribute that is absent, refused or of no type it knows."""
    found = {}
    for name in names:
        with suppress(pkcs11.PKCS11Error, ValueError, NotImplementedError):
            found[name] = raw[Attribute[name]]
    return found


def _described(raw: Any) -> dict[str, Any]:
    attributes = _read(raw, _READ.split()).items()
    found = {name: value.hex() if isinstance(value, bytes) else str(value) for name, value in attributes}
    value = next((one.hex() for one in _read(raw, _VALUES).values() if one), None)
    if found.get("CLASS", "").endswith("SECRET_KEY") and found.get("ENCRYPT") == "True":
        with suppress(pkcs11.PKCS11Error, AttributeError):
            value = raw.encrypt(bytes(16), mechanism=pkcs11.Mechanism.AES_ECB).hex()
    return {"LABEL": "", **found, "value": value}
