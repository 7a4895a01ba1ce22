# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Argument specs by group, each with a doc fragment of the same name. A module merges the groups that it takes. Those that know what a key
is are in ``key_options``."""

from __future__ import annotations

from typing import Any

Spec = dict[str, dict[str, Any]]

DEFAULT_REGISTRY = "/var/lib/keyfleet/registry.db"

REGISTRY: Spec = {"registry": {"type": "path", "default": DEFAULT_REGISTRY}, "option_names": {"type": "dict"}}

REGISTRY_FILE: Spec = {
    "state": {"type": "str", "choices": ["reported", "saved", "restored", "absent"], "default": "reported"},
    "path": {"type": "path"},
    "src": {"type": "path"},
    "host": {"type": "str"},
    "instances": {"type": "list", "elements": "str"},
    "over": {"type": "bool", "default": False},
}

HOST_LOOK: Spec = {
    "files": {"type": "list", "elements": "path", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "archive": {"type": "path"},
    "units": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "reads": {"type": "list", "elements": "path", "default": []}},
    },
    "host": {"type": "str", "default": "127.0.0.1"},
    "ports": {"type": "list", "elements": "int", "default": []},
    "health_url": {"type": "str"},
    "find": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "folder": {"type": "path", "required": True},
            "pattern": {"type": "str", "required": True},
            "age": {"type": "int", "default": 0},
        },
    },
    "users": {"type": "list", "elements": "str", "default": []},
}

PIN_SAFETY: Spec = {"allow_low_pin_count": {"type": "bool", "default": False, "no_log": False}}

# no_log: False where Ansible would take a name for a secret's.
TOKEN: Spec = {
    "label": {"type": "str"},
    "serial": {"type": "str"},
    "slot": {"type": "str"},
    "initialize": {"type": "bool", "default": False},
    "so_pin": {"type": "str", "no_log": True},
    "so_pin_file": {"type": "path", "no_log": False},
    "pin": {"type": "str", "no_log": True},
    "pin_file": {"type": "path", "no_log": False},
    "new_pin": {"type": "str", "no_log": True},
    "login": {"type": "raw", "choices": [True, False, "pinpad"], "default": True},
    "user_type": {"type": "str", "choices": ["user", "so"], "default": "user"},
    "shared": {"type": "bool", "default": False},
}

INSTANCE: Spec = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "default": ""},
    "model": {"type": "str"},
    "library": {"type": "path"},
    "admins": {"type": "list", "elements": "str", "default": []},
    "max_sessions": {"type": "int", "default": 1024},
    "connection_timeout": {"type": "int", "default": 0},
    "environment": {"type": "dict", "default": {}},
    "init_args": {"type": "str", "default": ""},
    "os_locking": {"type": "bool", "default": False},
    "layout": {"type": "str", "choices": ["pkcs11", "eviden"], "default": "pkcs11"},
    "tokens": {"type": "list", "elements": "dict", "options": TOKEN, "no_log": False},
}

INSTANCE_STATE: Spec = {
    "validate": {"type": "bool", "default": True},
    "allow_renumber": {"type": "bool", "default": False},
    "expect_prefix": {"type": "str"},
    "exclusive": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# What an entry of hsm_instances may say beside what an instance is.
DECLARED: Spec = {name: INSTANCE_STATE[name] for name in ("allow_renumber", "force", "state")}

GROUP: Spec = {
    "name": {"type": "str", "required": True},
    "description": {"type": "str", "default": ""},
    "connections": {
        "type": "list",
        "elements": "dict",
        "options": {
            "instance": {"type": "str", "required": True},
            "token_label": {"type": "str", "no_log": False},
            "token_serial": {"type": "str", "no_log": False},
            "slot": {"type": "str"},
            "priority": {"type": "int"},
        },
    },
    "apply_changes": {"type": "bool", "default": False},
    "exclusive": {"type": "bool", "default": True},
    "key_scan": {"type": "str", "choices": ["all", "own"], "no_log": False},
    "force": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

STATUS_INFO: Spec = {
    "instances": {"type": "list", "elements": "str"},
    "probe": {"type": "str", "choices": ["login", "roundtrip"], "default": "roundtrip"},
    "timeout": {"type": "int", "default": 30},
    "expect": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "instance": {"type": "str"},
            "token_label": {"type": "str", "no_log": False},
            "token_serial": {"type": "str", "no_log": False},
            "slot": {"type": "str"},
            "label": {"type": "str"},
            "id": {"type": "str"},
            "certificate": {"type": "bool", "default": True},
            "private_key": {"type": "bool", "default": True, "no_log": False},
        },
    },
    "holdings": {"type": "bool", "default": False},
    "gateway_url": {"type": "str"},
    "gateway_token": {"type": "str", "no_log": True},
    "gateway_token_file": {"type": "path", "no_log": False},
    "gateway_client_cert": {"type": "path"},
    "gateway_client_key": {"type": "path", "no_log": False},
    "gateway_ca_path": {"type": "path"},
    "gateway_validate_certs": {"type": "bool", "default": True},
    "declared": {
        "type": "dict",
        "options": {
            "instances": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "tokens": {
                        "type": "list",
                        "elements": "dict",
                        "no_log": False,
                        "options": {"label": {"type": "str"}, "serial": {"type": "str"}, "slot": {"type": "str"}},
                    },
                },
            },
            "groups": {"type": "list", "elements": "str", "default": []},
        },
    },
}

# What may fail a task because of what was found.
STATUS: Spec = {
    **STATUS_INFO,
    "require": {"type": "str", "choices": ["all", "any", "none"], "default": "none"},
    "undeclared": {"type": "str", "choices": ["report", "refuse"], "default": "report"},
}

ONE_TOKEN: Spec = {
    "token_label": {"type": "str", "no_log": False},
    "token_serial": {"type": "str", "no_log": False},
    "slot": {"type": "str"},
    "pin": {"type": "str", "no_log": True},
    "pin_file": {"type": "path", "no_log": False},
}

CONNECTION: Spec = {"instance": {"type": "str"}, **ONE_TOKEN}

IN_GROUP: Spec = {"group": {"type": "str"}}

PROVIDER: Spec = {
    "library": {"type": "path"},
    "environment": {"type": "dict"},
    "init_args": {"type": "str"},
    "os_locking": {"type": "bool"},
}

INFO: Spec = {
    **PROVIDER,
    **ONE_TOKEN,
    "library": {"type": "path", "required": True},
    "labels": {"type": "list", "elements": "str", "no_log": False},
    "generations": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 120},
}

CERTIFICATE: Spec = {
    "key_label": {"type": "str", "required": True, "no_log": False},
    "generation": {"type": "str", "choices": ["named", "current"], "default": "named"},
    "key_id": {"type": "str", "no_log": False},
    "subject": {"type": "dict"},
    "subject_alt_names": {"type": "list", "elements": "str"},
    "key_usage": {
        "type": "list",
        "elements": "str",
        "no_log": False,
        "choices": [
            "digitalSignature",
            "contentCommitment",
            "nonRepudiation",
            "keyEncipherment",
            "dataEncipherment",
            "keyAgreement",
            "keyCertSign",
            "cRLSign",
            "encipherOnly",
            "decipherOnly",
        ],
    },
    "extended_key_usage": {"type": "list", "elements": "str", "no_log": False},
    "extended_key_usage_critical": {"type": "bool", "no_log": False},
    "basic_constraints": {
        "type": "dict",
        "options": {"ca": {"type": "bool", "default": False}, "path_length": {"type": "int"}},
    },
    "digest": {"type": "str", "choices": ["sha256", "sha384", "sha512"]},
    "rsa_padding": {"type": "str", "choices": ["pkcs1", "pss"], "default": "pkcs1"},
    "csr_path": {"type": "path"},
    "csr_content": {"type": "str"},
    "src": {"type": "path"},
    "content": {"type": "str"},
    "self_signed": {"type": "dict", "options": {"valid_days": {"type": "int", "default": 365}}},
    "renew_before": {"type": "str"},
    "renew": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

KMS: Spec = {
    "instances": {"type": "list", "elements": "dict", "required": True, "options": INSTANCE | DECLARED},
    "settings": {"type": "dict", "default": {}, "no_log": True},
    "config_path": {"type": "path", "default": "/etc/cosmian/kms.toml"},
    "allow_renumber": {"type": "bool", "default": False},
    "server_path": {"type": "path", "default": "/usr/sbin/cosmian_kms"},
    "settings_unchecked": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "packaged_unit": {"type": "bool", "default": True},
    "environment": {"type": "dict", "default": {}},
    "proven": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "state": {"type": "str", "choices": ["present", "probed"], "default": "present"},
}

GATEWAY_CERTIFICATE: Spec = {
    "path": {"type": "path", "required": True},
    "source": {"type": "path"},
    "common_name": {"type": "str"},
    "subject_alt_names": {"type": "list", "elements": "str"},
    "key_type": {"type": "str", "choices": ["EC", "RSA"], "default": "EC", "no_log": False},
    "key_size": {"type": "int", "choices": [2048, 3072, 4096], "no_log": False},
    "valid_days": {"type": "int", "default": 365},
    "renew_before": {"type": "str", "default": "30d"},
    "on_mismatch": {"type": "str", "choices": ["fail", "replace", "keep"], "default": "fail"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw", "default": "0400"},
}


def merge(*groups: Spec) -> Spec:
    """One argument spec from several groups. A name that two groups define is a mistake of the module."""
    merged: Spec = {}
    for group in groups:
        if both := merged.keys() & group.keys():
            raise ValueError(f"options defined twice: {', '.join(sorted(both))}")
        merged |= group
    return merged
