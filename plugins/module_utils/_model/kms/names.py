# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The names at the top level of the KMS server's file: those that an installed server knows, and those of version 5.28 without one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .config import FLAT, INSTANCES


@dataclass(frozen=True)
class Names:
    """``source`` is the program that said so, None for the list here."""

    tables: frozenset[str]
    values: frozenset[str]
    source: str | None = None

    @property
    def is_old(self) -> bool:
        """Whether it is known to be a version before 5.28, which came with the table audit."""
        return "audit" not in self.tables

    def __contains__(self, name: object) -> bool:
        return name in self.tables or name in self.values


_TABLES = """
    db tls http socket_server proxy idp_auth workspace logging ui_config kmip jwks_endpoint auth_verifier vault
    google_cse_config azure_ekm_config aws_xks_config audit roles crl ocsp
"""
_VALUES = """
    default_username force_default_username vendor_identification kms_public_url ms_dke_service_url info key_encryption_key
    default_unwrap_type privileged_users non_revocable_key_id auto_rotation_check_interval_secs keyset_warn_depth
    metrics_count_interval_secs
"""
BUILT_IN = Names(frozenset(_TABLES.split()), frozenset(_VALUES.split()))
# What the template of the print-out has, and the server ignores as silently as a name of nobody's.
_PRINTED_IN_VAIN = frozenset({"notifications"})
# Values that every version takes and none prints.
_NOT_PRINTED = frozenset({"vendor_identification", "non_revocable_key_id", "auto_rotation_check_interval_secs", "keyset_warn_depth"})
_TABLE = re.compile(r"(?P<comment>#+ ?)?\[{1,2}(?P<name>[a-z][a-z0-9_]*)")
_VALUE = re.compile(r"(?:# )?(?P<name>[a-z][a-z0-9_]*) *=")


def printed_names(text: str, source: str) -> Names | None:
    """The names in what ``--print-default-config`` prints: TOML with comments, in which an optional key is a comment itself.

    None where this is something else.
    """
    tables, values, at_top = set(), set(_NOT_PRINTED), True
    for line in text.splitlines():
        if table := _TABLE.match(line):
            tables.add(table["name"])
            at_top = at_top and bool(table["comment"])
        elif at_top and (value := _VALUE.match(line)):
            values.add(value["name"])
    if not {"db", "http"} <= tables:
        return None
    return Names(frozenset(tables - _PRINTED_IN_VAIN - {INSTANCES}), frozenset(values - set(FLAT)), source)


def name_problems(names: Iterable[str], known: Names, unchecked: Collection[str]) -> list[str]:
    """One line for each of ``names``, the settings', that the server does not know and nobody lets through."""
    return [
        f"settings.{name}: {_unknown(name, known)}"
        for name in names
        if name not in known and name not in unchecked and name not in (*FLAT, INSTANCES)
    ]


def _unknown(name: str, known: Names) -> str:
    if name in BUILT_IN:
        return (
            f"the installed server ({known.source}) does not know it, and would ignore it silently. Version 5.28 does: upgrade the "
            "server first, or leave it out"
        )
    text = "the server has no such key or table, and it would ignore it silently"
    tables, values = sorted(known.tables), sorted(known.values)
    near = difflib.get_close_matches(name.lower(), [INSTANCES, *FLAT, *tables, *values], n=1)
    if near and near[0] in (INSTANCES, *FLAT):
        return f"{text}; HSMs are declared in the option instances: leave it out here"
    if near:
        return f"{text}; did you mean {near[0]}?"
    return (
        f"{text}. Known are the tables {', '.join(tables)} and the keys {', '.join(values)}. If this server has it, name it in "
        "settings_unchecked"
    )
