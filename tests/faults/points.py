# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The points at which a state's run is failed, from its recorded calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WRITES = """InitToken InitPIN SetPIN CreateObject CopyObject DestroyObject SetAttributeValue GenerateKey GenerateKeyPair UnwrapKey
DeriveKey"""
WRITES = frozenset(f"C_{name}" for name in _WRITES.split())
# The device's error, the one that says nothing, and a vendor's own; as an error names them.
CODES = {"0x30": "CKR_DEVICE_ERROR", "0x6": "CKR_FUNCTION_FAILED", "0x80000042": "CKR_VENDOR_DEFINED (0x80000042)"}


@dataclass(frozen=True)
class Point:
    """The ``number``-th call of the run, by its name, and what happens there in the fault library's words."""

    number: int
    function: str
    how: str

    @property
    def plan(self) -> str:
        return f"*:{self.number}:{self.how}"

    @property
    def kills(self) -> bool:
        return self.how in ("kill", "stop")

    @property
    def rv(self) -> str:
        """The name of the error that the call gives, as an answer has it."""
        return CODES[self.how.removesuffix(":on").partition("=")[2]]

    @property
    def causes(self) -> tuple[str, ...]:
        """What an answer may name: a call of an operation that fails without the token's knowledge leaves that operation open."""
        used = any(word in self.function for word in ("Encrypt", "Decrypt", "Sign", "Verify", "FindObjects"))
        return (self.rv, "CKR_OPERATION_ACTIVE") if used else (self.rv,)

    def __str__(self) -> str:
        return f"call {self.number}, {self.function}, {self.how}"


def points(calls: Sequence[str], *, every: int = 1) -> Iterator[Point]:
    """Every point of a run. Each write fails in every way. Of the other calls each ``every``-th fails before and after, with the codes
    in turn, and for good from there on, and the process is killed there."""
    codes, others = list(CODES), 0
    for number, function in enumerate(calls, 1):
        if function in WRITES:
            ways = [f"{when}={code}" for code in codes for when in ("before", "after")]
            ways += ["before=0x30:on", "after=0x30:on", "stop", "kill"]
        else:
            others += 1
            if others % every:
                continue
            turn = others // every
            ways = [f"before={codes[turn % 3]}", f"after={codes[(turn + 1) % 3]}", "before=0x30:on", "kill"]
        yield from (Point(number, function, how) for how in ways)
