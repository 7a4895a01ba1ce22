# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How an instance may be called, and a group."""

from __future__ import annotations

import re

from ..quoting import quoted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot be an instance's name, or None."""
    if not _NAME.match(name):
        return f"{quoted(name)} is no instance name: begin with a letter or digit and use letters, digits, '.', '_' and '-'"
    return None
