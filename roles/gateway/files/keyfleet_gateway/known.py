# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that the service knows at a moment: what metrics and page are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .board import Board, named
from .keys import Facts


@dataclass(frozen=True)
class Certificates:
    """Those on the tokens of an instance, in the order of its tokens, each with ``label``, ``id`` and ``end`` (seconds since 1970).

    ``read`` is when they were read, by the monotonic clock. ``errors`` has for each token why that failed this time, else None: then what
    was known of it before is still there.
    """

    read: float
    found: Sequence[Sequence[Mapping[str, Any]]]
    errors: Sequence[str | None]


def certificates_after(before: Certificates | None, told: Sequence[Mapping[str, Any]], now: float) -> Certificates:
    """With what a look has told of each token (:func:`.certificates.certificate_ends`)."""
    old = before.found if before is not None else [()] * len(told)
    return Certificates(
        now, [one.get("certificates", known) for one, known in zip(told, old, strict=True)], [one.get("error") for one in told]
    )


@dataclass(frozen=True)
class Member:
    """A member of a group. ``disagreements``: on how many keys it disagrees with the others; None where it could not be read."""

    instance: str
    token: str
    disagreements: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Compared:
    """The members of a group side by side, in priority order. ``read`` is when, by the monotonic clock; ``labels`` are some of the keys
    on which they disagree, ``keys`` is how many those are. ``error``: nothing could be compared.
    """

    read: float
    members: tuple[Member, ...] = ()
    keys: int = 0
    labels: tuple[str, ...] = ()
    error: str | None = None

    @property
    def whole(self) -> bool:
        """Whether every member could be read."""
        return self.error is None and all(member.disagreements is not None for member in self.members)


@dataclass
class Known:
    """``certificates`` are by instance, ``groups`` by name. ``certificate_end`` is of this service's own, in seconds since 1970."""

    board: Board
    facts: Facts = field(default_factory=Facts)
    certificates: dict[str, Certificates] = field(default_factory=dict)
    groups: dict[str, Compared] = field(default_factory=dict)
    certificate_end: float | None = None

    def certificate_ends(self) -> dict[tuple[str, str, str, str], float]:
        """By instance, token, label and CKA_ID. Of several certificates with one name on a token, the one that ends first."""
        ends: dict[tuple[str, str, str, str], float] = {}
        for name, read in self.certificates.items():
            entry = self.board.entries[name]
            for place, found in enumerate(read.found):
                token = named(entry.spec.tokens[place].selector, entry.tokens[place].slot)
                for one in found:
                    at = (name, token, one["label"], one["id"])
                    ends[at] = min(one["end"], ends.get(at, one["end"]))
        return ends

    def certificate_errors(self) -> dict[tuple[str, str, str], str | None]:
        """By instance, prefix and token, why its certificates could not be read when that was tried last; None where they were."""
        errors: dict[tuple[str, str, str], str | None] = {}
        for name, read in self.certificates.items():
            entry = self.board.entries[name]
            for token, seen, error in zip(entry.spec.tokens, entry.tokens, read.errors, strict=True):
                at = (name, entry.prefix or "", named(token.selector, seen.slot))
                errors[at] = error or errors.get(at)  # of tokens with one name
        return errors

    def stays(self, board: Board) -> Known:
        """What still holds of it under another declaration: of instances that are declared as they were, and of groups of such."""
        same = {name for name, entry in board.entries.items() if name in self.board.entries and self.board.entries[name].spec == entry.spec}
        return Known(
            board,
            self.facts,
            {name: read for name, read in self.certificates.items() if name in same},
            {name: compared for name, compared in self.groups.items() if {member.instance for member in compared.members} <= same},
        )
