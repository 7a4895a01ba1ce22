# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Argument specs of the modules whose subject is keys: hsm_key and hsm_sync."""

from __future__ import annotations

from .._model.keys.states import STATES
from .._model.keys.types import KEY_TYPES, OPERATIONS
from .._model.listing import RESULTS
from .options import GROUP, Spec

SOURCE: Spec = {
    "src": {"type": "path"},
    "content": {"type": "str", "no_log": True},
    "format": {"type": "str", "choices": ["pem", "der", "raw", "hex", "base64"]},
    "passphrase": {"type": "str", "no_log": True},
    "wrapping_key": {"type": "str", "no_log": False},
    "mechanism": {"type": "str", "choices": ["AES_KEY_WRAP", "AES_KEY_WRAP_KWP", "AES_KEY_WRAP_PAD", "RSA_PKCS", "RSA_PKCS_OAEP"]},
    "public_key": {"type": "str", "no_log": False},
}

KEYS: Spec = {
    "keys": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "label": {"type": "str", "required": True},
            "id": {"type": "str"},
            "type": {"type": "str", "choices": list(KEY_TYPES)},
            "size": {"type": "int"},
            "curve": {
                "type": "str",
                "choices": ["P-256", "P-384", "P-521", "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"],
            },
            "operations": {
                "type": "list",
                "elements": "str",
                "choices": list(OPERATIONS),
            },
            "sensitive": {"type": "bool"},
            "extractable": {"type": "bool"},
            "modifiable": {"type": "bool"},
            "destroyable": {"type": "bool"},
            "wrap_with_trusted": {"type": "bool"},
            "allowed_mechanisms": {"type": "list", "elements": "str"},
            "allow_weak": {"type": "bool", "default": False},
            "source": {"type": "dict", "options": SOURCE},
            "generation": {"type": "int"},
            "max_age": {"type": "str"},
            "lead": {"type": "str"},
            "previous": {"type": "str", "choices": ["keep", "deactivate", "destroy"], "default": "keep"},
            "enforce": {"type": "bool", "default": False},
            "on_mismatch": {"type": "str", "choices": ["fail", "replace", "keep"], "default": "fail"},
            "on_vanished": {"type": "str", "choices": ["fail", "recreate"], "default": "fail"},
            "unverifiable": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
            "state": {
                "type": "str",
                "choices": ["present", "absent", "public_only", *STATES],
                "default": "present",
            },
        },
    },
    "in_use": {"type": "dict"},
    "repair": {"type": "bool", "default": False},
    "on_elsewhere": {"type": "str", "choices": ["fail", "adopt"], "default": "fail"},
    "on_unreachable": {"type": "str", "choices": ["fail", "generate"], "default": "fail"},
    "results": {"type": "str", "choices": [*RESULTS]},
}

SYNC: Spec = {
    "refresh": {"type": "list", "elements": "str", "choices": ["id", "label"], "default": []},
    "prune": {"type": "bool", "default": False},
    "repair": {"type": "str", "choices": ["wrap", "layout"]},
    "require": {"type": "str", "choices": ["covered", "reported", "none"], "default": "none"},
    "export": {"type": "path"},
    "leaving": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {name: option for name, option in GROUP["connections"]["options"].items() if name != "priority"},
    },
    "recall": {"type": "dict"},
    "results": {"type": "str", "choices": [*RESULTS]},
}
