# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the other members of a group answered when they were asked for a key."""

from __future__ import annotations

from dataclasses import dataclass

from ...._model.keys.objects import Key
from ...._model.keys.spec import KeySpec
from ...virtual_keys.identity import ANY, facts


@dataclass(frozen=True)
class MemberAnswer:
    """A key on another member. ``member`` is how that connection is called, ``token_id`` its token's row in the registry."""

    member: str
    token_id: int
    key: Key


@dataclass(frozen=True)
class OtherMembers:
    """All keys of the members that were asked, and who could not be reached, each with the reason."""

    keys: tuple[MemberAnswer, ...] = ()
    unreached: tuple[str, ...] = ()

    def labels(self) -> set[str]:
        return {answer.key.main.label for answer in self.keys}

    def of(self, spec: KeySpec) -> list[MemberAnswer]:
        """Who has a key with the label or the CKA_ID of ``spec``."""
        wanted = set(facts(ANY, spec.label, spec.key_id))
        return [answer for answer in self.keys if wanted & {*facts(ANY, answer.key.main.label, answer.key.main.key_id)}]
