# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""``repair: wrap``: what a member lacks is copied from the first one that has it. What differs is never overwritten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ..._model.errors import KeyfleetError
from ..._model.groups.member_comparison import Disagreement
from ..._model.plan import CREATE, Context, Step
from ..._model.records import GroupRecord
from ..._model.scope import Scope
from ..._registry.database import Database
from ..virtual_keys.comparison import Match
from ..virtual_keys.scope import group_scope
from .comparison import MemberReport
from .copy_rules import CopyRules, Order, Refusal, plan_copies


@dataclass(frozen=True)
class Repairs:
    """What was copied, in check mode what would be, and what was not. ``steps`` are the copies as the diff shows them.

    ``broken`` are those of ``not_repaired`` that failed by a fault of the device, of a process or of the registry, or that may have left
    something; ``left``: one of them may have.
    """

    repaired: tuple[dict[str, Any], ...] = ()
    not_repaired: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    broken: tuple[dict[str, Any], ...] = ()
    left: bool = False


class Repair:
    """Copies between the members of a ``report``. No session is open."""

    def __init__(self, report: MemberReport, database: Database, context: Context) -> None:
        self.report = report
        self.database = database
        self.context = context
        self._broken: list[dict[str, Any]] = []
        self._left = False

    def rules(self, group: GroupRecord, scope: Scope, matches: Sequence[Match]) -> CopyRules:
        """``matches`` are the group's records and the keys of the serving member that they point at."""
        around = [group_scope(self.database, group, token_id) for token_id in group.members]
        return CopyRules(scope, matches, around, {self.report.serving})

    def previewed(self) -> Repair:
        """The same without a copy being made."""
        return Repair(self.report, self.database, replace(self.context, check_mode=True))

    def run(self, rules: CopyRules) -> Repairs:
        if not any(row.lack for row in self.report.found):
            return Repairs()
        orders, refused = plan_copies(self.report.found, rules)
        hides = {number: member.contents.hidden for number, member in enumerate(self.report.members) if member.contents.hidden}
        refused += [
            Refusal(order.row, order.lacking, f"it may be there: {hides[order.lacking]}") for order in orders if order.lacking in hides
        ]
        orders = [order for order in orders if order.lacking not in hides]
        left = [self._entry(row, None, lacking, code="not_copied", reason=reason) for row, lacking, reason in refused]
        done = [one for _way, same in groupby(orders, key=lambda order: order[1:3]) for one in self._copy(list(same))]
        return Repairs(
            tuple(entry for entry, step in done if step is not None),
            (*left, *(entry for entry, step in done if step is None)),
            tuple(step for _entry, step in done if step is not None),
            tuple(self._broken),
            self._left,
        )

    def _copy(self, orders: Sequence[Order]) -> Iterator[tuple[dict[str, Any], Step | None]]:
        """Copies from one member to another: an entry of the answer for each, and a step where one was made."""
        from .copy import copy_keys, is_broken
        from .copy_sides import PRESENT  # most runs only read

        _row, source, lacking, _name = orders[0]
        try:
            copied = copy_keys(
                self.report.members[source].target,
                self.report.members[lacking].target,
                [order.name for order in orders],
                self.database,
                check_mode=self.context.check_mode,
            )
        except KeyfleetError as error:
            entries = [self._entry(order.row, source, lacking, code=error.code, reason=error.message) for order in orders]
            self._broken += entries if is_broken(error) else []
            yield from ((entry, None) for entry in entries)
            return
        for order, answer in zip(orders, copied, strict=True):
            if not answer.done:
                entry = self._entry(order.row, source, lacking, code=answer.code, reason=answer.reason)
                self._broken += [entry] if answer.broken or answer.left else []
                self._left = self._left or answer.left
                yield entry, None
            elif answer.code != PRESENT:  # else another run was quicker
                yield self._entry(order.row, source, lacking), self._step(order)

    def _step(self, order: Order) -> Step:
        source, lacking = (self.report.members[number].connection for number in (order.source, order.lacking))
        after = {"id": order.row.key_id.hex(), "type": order.row.type, "from": str(source)}
        return Step(CREATE, f"key {order.row.label} on connection {lacking}", None, after)

    def _entry(self, row: Disagreement, source: int | None, lacking: int, **more: Any) -> dict[str, Any]:
        members = self.report.members
        shown_from = members[source].shown if source is not None else None
        return {"label": row.label, "id": row.key_id.hex(), "from": shown_from, "to": members[lacking].shown, **more}
