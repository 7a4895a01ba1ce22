# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The one type that carries a PIN, and what stands in its place where a person types it at the device."""

from __future__ import annotations

import json
from typing import Final

_SHORTEST_LINE = 4  # a shorter line of a key or a file is none of its secret, and stands in any text


class Pin:
    """What a login takes: a :class:`Secret`, or :data:`TYPED`."""

    __slots__ = ()


class Secret(Pin):
    """A PIN or passphrase that no repr, format, log or error can print.

    The text leaves it only through :meth:`reveal`, which is called where a PIN goes to the token or into its
    owner-only file.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a Secret is not serialised")


class PinPad(Pin):
    """No PIN: a person types it at the device, by its protected authentication path (PKCS#11 3.1, section 5.6.6)."""


TYPED: Final = PinPad()
PINPAD = "pinpad"  # the word for it in ``login``


def pin_problem(pin: Secret) -> str | None:
    """What is in a PIN that nobody types, and that an editor or YAML most likely put there; None where nothing is."""
    text = pin.reveal()
    if "\ufeff" in text:
        return "has a byte order mark"
    if "\0" in text:
        return "has a NUL byte"
    if "\r" in text or "\n" in text:
        return "has a line break"
    return "has a blank at its beginning or end" if text != text.strip() else None


def length_fits(pin: Secret, lengths: tuple[int, int]) -> bool:
    """Whether a token takes PINs of this length. ``lengths``: its least and greatest in bytes; with 0 as the greatest it does not say."""
    least, most = lengths
    return not most or least <= len(pin.reveal().encode("utf-8")) <= most


def option_problems(pin: Secret, option: str) -> list[str]:
    """What is wrong with a PIN that an option gives, to be told before anything is done with it."""
    if not pin:
        return [f"{option}: is empty"]
    problem = pin_problem(pin)
    if problem is None:
        return []
    return [f"{option}: {problem}, and is not tried: give the PIN alone, on one line and in quotes ('pin: |' keeps the newline)"]


def mask(text: str, secrets: set[str]) -> str:
    """Replace each secret that occurs in a free text, as it is or as repr or JSON write it, and each line of one.

    For texts that we did not write: tracebacks, foreign errors.
    """
    parts = {line for secret in secrets for line in secret.splitlines() if len(line) >= _SHORTEST_LINE} | secrets
    spellings = {spelling for part in parts for spelling in (part, repr(part)[1:-1], json.dumps(part)[1:-1])}
    for spelling in sorted(spellings - {""}, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text
