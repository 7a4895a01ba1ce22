# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What works with the server: each step is a row of the table, and its docstring what the row says. It answers with a figure, or raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.names import BUILT_IN, printed_names
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.kms.status import status_differences
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hsm_fixture import ok

from . import server
from .kmip import OAEP, Client, Refused
from .scene import Scene

DATA = b"what is to be kept"
_ALL = ["sign", "verify", "encrypt", "decrypt"]


def round_trip(client: Client, uid: str) -> None:
    assert client.decrypt(uid, client.encrypt(uid, DATA)) == DATA, uid


def verified(pem: str, signature: bytes) -> None:
    key = serialization.load_pem_public_key(pem.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, DATA, padding.PKCS1v15(), hashes.SHA256())


def file_and_status(scene: Scene) -> str:
    """The file is accepted, and `/hsm/status` says what the probe found"""
    with scene.served() as (client, starts):
        served = client.get("/hsm/status")
        probed = ok(scene.hsm.run("hsm_status", instances=scene.names))["instances"]
    assert not (differences := status_differences(served, probed)), differences
    return f"{len(starts)} instances"


def aes_of_ours(scene: Scene) -> str:
    """AES keys of hsm_key encrypt and decrypt by their UIDs"""
    labels = ["aes-128", "aes 256", "a::b"]
    sizes = [128, 256, 256]
    scene.keys(*({"label": label, "type": "AES", "size": size} for label, size in zip(labels, sizes, strict=True)))
    with scene.served() as (client, starts):
        for label in labels:
            round_trip(client, starts["first"] + label)
    return ", ".join(f"`{label}`" for label in labels)


def pairs_of_ours(scene: Scene) -> str:
    """RSA pairs of hsm_key sign, encrypt and decrypt by their UIDs"""
    made = [f"rsa-{number}" for number in range(6)]
    answer = scene.keys(*({"label": label, "type": "RSA", "size": 2048, "operations": _ALL} for label in made))
    with scene.served() as (client, starts):
        for label, key in zip(made, answer["keys"], strict=True):
            uid = starts["first"] + label
            verified(key["public_key"], client.sign(uid, DATA))
            assert client.decrypt(uid, client.encrypt(f"{uid}_pk", DATA, OAEP), OAEP) == DATA
    return f"{len(made)} of {len(made)}, after a new start"


def pairs_laid_out_otherwise(scene: Scene) -> str:
    """RSA pairs with `layout: pkcs11`, for comparison"""
    ok(scene.hsm.run("hsm_instance", **scene.hsm.instance("second", tokens=[scene.hsm.token("second")], layout="pkcs11")))
    made = [f"plain-{number}" for number in range(6)]
    scene.keys(*({"label": label, "type": "RSA", "size": 2048} for label in made), instance="second")
    signed = []
    with scene.served() as (client, starts):
        for label in made:
            try:
                client.sign(starts["second"] + label, DATA)
            except Refused:
                continue
            signed.append(label)
    return f"{len(signed)} of {len(made)} sign"


def certificate_beside(scene: Scene) -> str:
    """A key goes on signing beside its certificate"""
    answer = scene.keys({"label": "tls", "type": "RSA", "size": 2048})
    certificate: dict[str, Any] = {
        "instance": "first",
        "key_label": "tls",
        "subject": {"CN": "kms.example.com"},
        "self_signed": {"valid_days": 90},
    }
    assert ok(scene.hsm.run("hsm_certificate", **certificate))["changed"]
    with scene.served() as (client, starts):
        verified(answer["keys"][0]["public_key"], client.sign(starts["first"] + "tls", DATA))
    again = ok(scene.hsm.run("hsm_certificate", **certificate))
    assert again["changed"] is False, again
    return "signature verified, certificate found again"


def keys_of_theirs(scene: Scene) -> str:
    """AES keys and RSA pairs that the server makes are keys of hsm_sync, hsm_key and hsm_status"""
    with scene.served() as (client, starts):
        client.create(starts["first"] + "theirs")
        client.create_pair(starts["first"] + "their-pair")
        assert sorted(scene.sync()["added"]) == [starts["first"] + "their-pair", starts["first"] + "theirs"]
        assert not scene.sync()["added"]
        kept = scene.keys({"label": "theirs", "type": "AES", "size": 256}, {"label": "their-pair", "type": "RSA", "size": 2048})
        assert kept["changed"] is False, kept
        round_trip(client, starts["first"] + "theirs")
    return "one record for a pair, nothing to change"


def rotation(scene: Scene) -> str:
    """The server's ReKey of a key of hsm_key: the new key is one of hsm_sync, and the old one goes on"""
    scene.keys({"label": "turning", "type": "AES", "size": 256})
    with scene.served() as (client, starts):
        uid = starts["first"] + "turning"
        before = client.encrypt(uid, DATA)
        newest = client.rekey(uid)
        assert client.decrypt(uid, before) == DATA
        round_trip(client, newest)
        assert (added := scene.sync()["added"]) == [newest], added
        keys = ", ".join(f"`{made.removeprefix(starts['first'])}`" for made in (uid, newest, client.rekey(newest)))
    return f"{keys}; the base UID stays with the first"


def third_instance(scene: Scene) -> str:
    """A third instance at the end keeps the UIDs of the others; the first one removed would not, and is refused"""
    scene.keys({"label": "kept", "type": "AES", "size": 256}, instance="second")
    with scene.served() as (client, starts):
        sealed = client.encrypt(starts["second"] + "kept", DATA)
    scene.names.append("third")
    scene.register("third")
    with scene.served() as (client, more):
        assert {name: more[name] for name in starts} == starts
        assert client.decrypt(starts["second"] + "kept", sealed) == DATA
    removed = scene.names.pop(0)
    refused = scene.write()
    assert refused["failure"]["code"] == "renumbering", refused
    scene.names.insert(0, removed)
    return ", ".join(f"`{start.split('::')[1]}`" for start in more.values())


def names(_scene: Scene) -> str:
    """Names that the server prints with `--print-default-config` and that are not in the built-in list"""
    printed = printed_names(server.default_config(), server.SERVER)
    assert printed is not None
    unknown = sorted((printed.tables | printed.values) - (BUILT_IN.tables | BUILT_IN.values))
    assert not unknown, unknown
    return f"none of {len(printed.tables)} tables and {len(printed.values)} keys"


STEPS: list[Callable[[Scene], Any]] = [
    *(file_and_status, aes_of_ours, pairs_of_ours, pairs_laid_out_otherwise, certificate_beside, keys_of_theirs),
    *(rotation, third_instance, names),
]
