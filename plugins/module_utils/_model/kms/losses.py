# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the server's file must not lose: tokens that a group or a recorded key refers to. Their UIDs would lead nowhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import Refused
from ..quoting import listed
from ..records import TokenRecord
from .config import Served


@dataclass(frozen=True)
class Referred:
    """A registered token with what refers to it: names of groups, and labels of virtual keys. ``named``: the file named its
    instance when it was written last."""

    instance: str
    model: str
    token: TokenRecord
    named: bool = False
    groups: Sequence[str] = ()
    keys: Sequence[str] = ()


def check_losses(
    tokens: Iterable[Referred], before: Collection[tuple[str, int]], instances: Sequence[Served], absent: Mapping[str, bool]
) -> None:
    """Raise :class:`Refused` for every token that would leave the file while something refers to it.

    ``before`` are model and slot of what the file serves now. ``absent``: instances that are declared so, and whether their keys may be
    forgotten.
    """
    after = {(instance.spec.model, slot) for instance in instances for slot in instance.slots}
    declared = {instance.spec.name: {token.selector for token in instance.spec.tokens} for instance in instances}
    lost = []
    for one in tokens:
        place = (one.model, one.token.slot)
        served = place in before or (one.named and one.instance not in declared)
        stays = place in after or one.token.selector in declared.get(one.instance, ())
        if served and not stays and (one.groups or (one.keys and not absent.get(one.instance))):
            lost.append(one)
    if lost:
        raise Refused(
            f"instances: refused, the server would lose what is still referred to: {'; '.join(map(_reason, lost))}. Keep it declared. "
            "To remove an instance, leave its entry and say state: absent there, and force: true to forget the records of its keys "
            "(the keys in the HSM stay).",
            code="in_use",
            details={
                "groups": sorted({group for one in lost for group in one.groups}),
                "virtual_keys": [key for one in lost for key in one.keys],
                "by_name": all(one.instance in absent for one in lost),
            },
        )


def _reason(one: Referred) -> str:
    what = f"token '{one.token.named()}' of instance '{one.instance}'"
    if one.groups:
        return f"{what}: these groups have a connection to it: {listed(one.groups)}. Take it out of them first with hsm_group"
    count = "1 virtual key refers" if len(one.keys) == 1 else f"{len(one.keys)} virtual keys refer"
    return f"{what}: {count} to it: {listed(one.keys)}"
