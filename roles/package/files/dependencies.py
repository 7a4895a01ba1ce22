# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints what a Debian package needs and this host does not have: one line for each such part of its Depends and Pre-Depends.

The argument is the text of these two fields. dpkg itself looks at it only after it has unpacked a package, and apt would
need its lists, which a host without network does not have.
"""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import zip_longest

_RELATION = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]*)(:[a-z0-9-]+)?\s*(\((?P<operator><<|<=|=|>=|>>)\s*(?P<version>[^\s)]+)\s*\))?")
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")


def installed() -> dict[str, list[str]]:
    """The versions in which each name is there. What another package provides has the version that it promises, or an empty one."""
    found: dict[str, list[str]] = {}
    done = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", "--showformat=${db:Status-Status}\t${Package}\t${Version}\t${Provides}\n"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        status, name, version, provides = line.split("\t")
        if status in _INSTALLED:
            found.setdefault(name, []).append(version)
            for part in provides.split(","):
                match = _RELATION.fullmatch(part.strip())
                if match:
                    found.setdefault(match["name"], []).append(match["version"] or "")
    return found


def unmet(fields: str, there: dict[str, list[str]]) -> list[str]:
    clauses = filter(None, (clause.strip() for clause in fields.split(",")))
    return [clause for clause in clauses if not any(_met(relation.strip(), there) for relation in clause.split("|"))]


def _met(relation: str, there: dict[str, list[str]]) -> bool:
    match = _RELATION.fullmatch(relation)
    if match is None:
        return False  # left to apt
    versions = there.get(match["name"], [])
    if match["operator"] is None:
        return bool(versions)
    return any(version and _holds(compare(version, match["version"]), match["operator"]) for version in versions)


def _holds(order: int, operator: str) -> bool:
    return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[operator]


def compare(one: str, other: str) -> int:
    """Below, equal or above 0, as the Debian Policy orders versions: epoch, upstream version, revision."""
    for left, right in zip(_parts(one), _parts(other), strict=True):
        # Text and numbers take turns. In text ~ comes before the end, the end before letters, letters before the rest.
        pairs = zip_longest(re.findall(r"(\D*)(\d*)", left), re.findall(r"(\D*)(\d*)", right), fillvalue=("", ""))
        for (left_text, left_number), (right_text, right_number) in pairs:
            orders = (_text(left_text), int(left_number or 0)), (_text(right_text), int(right_number or 0))
            if orders[0] != orders[1]:
                return -1 if orders[0] < orders[1] else 1
    return 0


def _parts(version: str) -> tuple[str, str, str]:
    epoch, rest = version.split(":", 1) if ":" in version else ("0", version)
    upstream, hyphen, revision = rest.rpartition("-")
    return epoch, upstream if hyphen else rest, revision if hyphen else "0"


def _text(text: str) -> list[int]:
    return [-1 if sign == "~" else ord(sign) if sign.isalpha() else ord(sign) + 256 for sign in text] + [0]


def main() -> None:
    for clause in unmet(sys.argv[1], installed()):
        print(clause)


if __name__ == "__main__":
    main()
