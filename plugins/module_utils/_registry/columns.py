# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""SQL from the names of columns, so that insert and update cannot differ in them. Values are bound by name."""

from __future__ import annotations

from collections.abc import Iterable


def insert(table: str, columns: Iterable[str]) -> str:
    names = list(columns)
    values = [f":{name}" for name in names]
    return " ".join(["INSERT INTO", table, f"({', '.join(names)}) VALUES ({', '.join(values)})"])


def update(table: str, columns: Iterable[str]) -> str:
    """The row with ``:id``."""
    return " ".join(["UPDATE", table, "SET", ", ".join(f"{name} = :{name}" for name in columns), "WHERE id = :id"])
