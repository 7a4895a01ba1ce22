# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states: what is there, and the task whose calls are failed. Each begins with a registered token and with keys that are nobody's
business: whatever happens, they stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hsm_fixture import PIN, SO_PIN

from .scratch import NEW_PIN, Site

BYSTANDERS = ({"label": "stays-aes", "type": "AES"}, {"label": "stays-ec", "type": "EC"})


@dataclass(frozen=True)
class State:
    """``prepare`` makes what is there; ``args`` are the task's. ``group``: two members are there, in the group ``payments``."""

    name: str
    module: str
    args: dict[str, Any]
    prepare: Callable[[Site], None] = field(default=lambda site: None)
    group: bool = False
    bare: bool = False  # no token is there


def _keys(*keys: dict[str, Any], **more: Any) -> Callable[[Site], None]:
    def prepare(site: Site) -> None:
        site.ok("hsm_key", instance="primary", keys=list(keys), **more)

    return prepare


def _key(*keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"instance": "primary", "keys": list(keys), **more}


def _half(site: Site) -> None:
    _keys(EC)(site)
    site.hsm.tool("--delete-object", "--type", "pubkey", "--label", "sig")


def _certified(site: Site) -> None:
    _keys(EC)(site)
    site.ok("hsm_certificate", instance="primary", key_label="sig", **CERTIFICATE)


def _unregistered(site: Site) -> None:
    site.hsm.tool("--keygen", "--key-type", "AES:32", "--label", "foreign", "--id", "01")


def _copied(site: Site) -> None:
    site.ok("hsm_key", group="payments", keys=[{**EC, "extractable": True}])


AES: dict[str, Any] = {"label": "dek", "type": "AES"}
EC: dict[str, Any] = {"label": "sig", "type": "EC"}
IMPORTED = {"label": "imp", "type": "AES", "source": {"content": "00112233445566778899aabbccddeeff", "format": "hex"}}
_PRIVATE = ec.generate_private_key(ec.SECP256R1())
_KEK = {"label": "kek", "type": "AES", "operations": ["wrap", "unwrap"], "source": {"content": "aa" * 32, "format": "hex"}}
_DER = _PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
_PUBLIC = _PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PAIR = {"label": "pair", "type": "EC", "source": {"content": _DER.hex(), "format": "hex"}}
WRAPPED = (
    {"label": "unw", "type": "AES", "source": {"content": aes_key_wrap(b"\xaa" * 32, b"k" * 16).hex(), "wrapping_key": "kek"}},
    {
        "label": "unw-pair",
        "type": "EC",
        "source": {"content": aes_key_wrap_with_padding(b"\xaa" * 32, _DER).hex(), "wrapping_key": "kek", "public_key": _PUBLIC},
    },
)
CERTIFICATE: dict[str, Any] = {"subject": {"CN": "a.example.com"}, "self_signed": {}}

STATES: tuple[State, ...] = (
    State("keys are made", "hsm_key", _key(AES, EC, {"label": "ed", "type": "Ed25519"})),
    State("keys are there", "hsm_key", _key(AES, EC), _keys(AES, EC)),
    State("a key that agrees", "hsm_key", _key({"label": "agree", "type": "EC", "operations": ["derive"]})),
    State("keys are imported", "hsm_key", _key(IMPORTED, PAIR)),
    State("wrapped keys are imported", "hsm_key", _key(*WRAPPED), _keys(_KEK)),
    State("operations change", "hsm_key", _key({**AES, "operations": ["encrypt"]}, {**EC, "operations": ["sign"]}), _keys(AES, EC)),
    State("a secret key is replaced", "hsm_key", _key({**AES, "size": 128, "on_mismatch": "replace"}), _keys(AES)),
    State("a pair is replaced", "hsm_key", _key({**EC, "curve": "P-384", "on_mismatch": "replace"}), _keys(EC)),
    State("keys are made absent", "hsm_key", _key(*({**key, "state": "absent"} for key in (AES, EC))), _keys(AES, EC)),
    State("keys are destroyed", "hsm_key", _key(*({**key, "state": "destroyed"} for key in (AES, EC))), _keys(AES, EC)),
    State("a key is deactivated", "hsm_key", _key({**AES, "state": "deactivated", "enforce": True}), _keys(AES)),
    State("a private half goes", "hsm_key", _key({**EC, "state": "public_only"}), _keys(EC)),
    State("a lost public half", "hsm_key", _key(EC, repair=True), _half),
    State("a rotation", "hsm_key", _key({**AES, "generation": 2, "previous": "destroy"}), _keys(AES)),
    State("a group's key", "hsm_key", {"group": "payments", "keys": [AES, EC]}, group=True),
    State("a certificate is made", "hsm_certificate", {"instance": "primary", "key_label": "sig", **CERTIFICATE}, _keys(EC)),
    State(
        "a certificate is renewed",
        "hsm_certificate",
        {"instance": "primary", "key_label": "sig", **CERTIFICATE, "subject": {"CN": "b.example.com"}},
        _certified,
    ),
    State("a certificate goes", "hsm_certificate", {"instance": "primary", "key_label": "sig", "state": "absent"}, _certified),
    State("unknown keys", "hsm_sync", {"instance": "primary"}, _unregistered),
    State("members differ", "hsm_sync", {"group": "payments", "repair": "wrap"}, _copied, group=True),
    State("status", "hsm_status", {}),
    State("a token is described", "hsm_info", {}),
    State("the file of the KMS", "kms_config", {}),
    State("no token", "hsm_instance", {"tokens": "new"}, bare=True),
    State("a token to register", "hsm_instance", {"tokens": "known"}, bare=True),
    State("a new PIN", "hsm_instance", {"tokens": "rotated"}),
)


def set_up(site: Site, state: State) -> dict[str, Any]:
    """Make what the state begins with, and keep it. The task's arguments."""
    args = dict(state.args)
    if not state.bare:
        site.ok("hsm_instance", **site.instance(site.hsm))
        site.ok("hsm_key", instance="primary", keys=list(BYSTANDERS))
    if state.group:
        tokens = [site.hsm.token("payments-b")]
        site.ok("hsm_instance", **site.instance(site.standby, name="standby", tokens=tokens))
        both = [{"instance": "primary", "token_label": "payments"}, {"instance": "standby", "token_label": "payments-b"}]
        site.ok("hsm_group", name="payments", connections=both)
    if args.get("tokens") == "known":
        site.hsm.softhsm_util("--init-token", "--free", "--label", "payments", "--so-pin", SO_PIN, "--pin", PIN)
    state.prepare(site)
    if state.module == "hsm_instance":
        pin_file = str(site.root / "pins" / "payments")
        entries = {
            "new": site.hsm.token(),
            "known": {"label": "payments", "pin": PIN, "pin_file": pin_file},
            "rotated": {"label": "payments", "pin_file": pin_file, "new_pin": NEW_PIN},
        }
        args = site.instance(site.hsm, tokens=[entries[args["tokens"]]])
    if state.module == "hsm_info":
        way = site.instance(site.hsm)
        args = {"library": way["library"], "environment": way["environment"], "token_label": "payments", "pin": PIN}
    if state.module == "kms_config":
        entry = site.instance(site.hsm, tokens=[{"label": "payments", "pin": PIN}], admins=["ops"])
        args = {"instances": [entry], "config_path": str(site.root / "kms.toml")}
    site.keep()
    return args
