# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How a person names a token: by exactly one of label, serial or slot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..quoting import quoted

LABEL_BYTES = 32  # CK_TOKEN_INFO.label is 32 bytes, blank-padded (PKCS#11 3.1, section 3.2)
MAX_SLOT = 2**64 - 1  # CK_SLOT_ID is a CK_ULONG

_SLOT = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)\Z")


def parse_slot(text: str | int) -> int:
    """A slot number from decimal or ``0x`` text. Raises ValueError with a reason."""
    text = str(text).strip()
    if not _SLOT.match(text):
        raise ValueError(f"{quoted(text)} is no slot number: give decimal digits or 0x and hex digits")
    slot = int(text, 16) if text[:2].lower() == "0x" else int(text, 10)
    if slot > MAX_SLOT:
        raise ValueError(f"{quoted(text)} is larger than a slot number can be (64 bits)")
    return slot


def label_problem(label: str) -> str | None:
    """Why ``label`` cannot be a token's label, or None."""
    if not label.strip():
        return "is empty"
    if label != label.strip():
        return f"{quoted(label)} begins or ends with a blank, and tokens pad labels with blanks"
    if len(label.encode("utf-8", "surrogatepass")) > LABEL_BYTES:
        return f"{quoted(label)} is longer than the {LABEL_BYTES} bytes that a token label holds"
    if any(ord(char) < 32 or ord(char) == 127 for char in label):
        return f"{quoted(label)} contains a control character"
    return None


def option_of(kind: str) -> str:
    """The option of a task that names a token of an instance by its label, serial number or slot."""
    return kind if kind == "slot" else f"token_{kind}"


@dataclass(frozen=True)
class TokenSelector:
    """``kind`` is ``label``, ``serial`` or ``slot``; ``value`` is a str, for a slot an int."""

    kind: str
    value: str | int

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str, prefix: str = "") -> tuple[TokenSelector | None, list[str]]:
        """Read ``label``, ``serial``, ``slot`` (each behind ``prefix``) and say what is wrong, in words that name ``where``."""
        asked = [(kind, options.get(f"{prefix}{kind}" if kind != "slot" else "slot")) for kind in ("label", "serial", "slot")]
        given = [(kind, value) for kind, value in asked if value is not None]
        names = f"{prefix}label, {prefix}serial, slot"
        if len(given) != 1:
            found = " and ".join(kind for kind, _value in given) or "none"
            return None, [f"{where}: give exactly one of {names}; found {found}"]
        kind, value = given[0]
        if kind == "slot":
            try:
                return cls("slot", parse_slot(value)), []
            except ValueError as error:
                return None, [f"{where}.slot: {error}"]
        text = str(value)
        problem = label_problem(text) if kind == "label" else (None if text.strip() else "is empty")
        if problem:
            return None, [f"{where}.{prefix}{kind}: {problem}"]
        return cls(kind, text), []

    def options(self) -> dict[str, str | int]:
        """As a task writes it that names a token of an instance."""
        return {option_of(self.kind): self.value}

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" if self.kind == "slot" else f"{self.kind} '{self.value}'"
