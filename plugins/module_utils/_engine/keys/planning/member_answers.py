# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the other members of a group answered when they were asked for a key."""

from __future__ import annotations

from dataclasses import dataclass

from ...._model.keys.layout import EVIDEN
from ...._model.keys.objects import Key
from ...._model.keys.spec import KeySpec
from ...._model.uids import uid
from ...virtual_keys.identity import ANY, Fact, facts


@dataclass(frozen=True)
class MemberAnswer:
    """A key on another member. ``member`` is how that connection is called, ``token_id`` its token's row in the registry, ``address``
    the token's prefix and slot."""

    member: str
    token_id: int
    key: Key
    address: tuple[str, int] = ("", 0)

    @property
    def uid(self) -> str:
        return uid(*self.address, self.key.key_id_text)


def _names(key: Key, *, lone: bool) -> list[Fact]:
    """``lone``: also what a public half alone is half of."""
    return [*facts(ANY, key.main.label, key.main.key_id), *(facts(ANY, key.pair_label, key.pair_id) if lone else ())]


@dataclass(frozen=True)
class OtherMembers:
    """All keys of the members that were asked, and who could not be reached, each with the reason."""

    keys: tuple[MemberAnswer, ...] = ()
    unreached: tuple[str, ...] = ()

    def labels(self) -> set[str]:
        return {answer.key.main.label for answer in self.keys}

    def of(self, spec: KeySpec) -> list[MemberAnswer]:
        """Who has a key with the label or the CKA_ID of ``spec``, or half of one as the layout of ``spec`` has it."""
        wanted = set(facts(ANY, spec.label, spec.key_id))
        return [answer for answer in self.keys if wanted & {*_names(answer.key, lone=spec.layout == EVIDEN)}]
