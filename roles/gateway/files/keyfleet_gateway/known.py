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
    """Those on the tokens of an instance, each with ``token`` (its place), ``label``, ``id`` and ``end`` (seconds since 1970).

    ``read`` is when they were read, by the monotonic clock.
    """

    read: float
    found: Sequence[Mapping[str, Any]]


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
            for one in read.found:
                place = one["token"]
                at = (name, named(entry.spec.tokens[place].selector, entry.tokens[place].slot), one["label"], one["id"])
                ends[at] = min(one["end"], ends.get(at, one["end"]))
        return ends
