# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether every member of a group has every key of it, so that any of them can serve. Reads what was compared, and asks no HSM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._model.groups.member_comparison import Disagreement
from ..._model.quoting import listed
from .comparison import MemberReport
from .copy_rules import CopyRules, Order, plan_copies
from .repair import Repair, Repairs

_LACKS, _FIXED = "lacks {}", "lacks {}, which cannot be copied"
_OTHER, _RENAMED, _UNKNOWN = "has another key under the name {}", "has {} under another name", "may have another key under the name {}"
# What a person can do about each, in the order in which it is told.
_WAYS_OUT = {
    _LACKS: "Copy what a member lacks with repair: wrap.",
    _OTHER: "Of two keys under one name, find out which one is the group's, and rename or destroy the other in its HSM.",
    _RENAMED: "Give a key that is under another name the group's CKA_LABEL and CKA_ID in its HSM.",
}
_UNREAD = "See why a member cannot be read (unread), and run again."
# Codes of a copy that no run will make. Any other reason is one that a person can see to.
_NEVER = {
    "always_authenticate",
    "mechanism_missing",
    "needs_trusted",
    "no_label",
    "not_carried",
    "not_comparable",
    "not_copied",
    "not_extractable",
    "restricted",
    "unknown_type",
}


@dataclass(frozen=True)
class Gap:
    """A key that a member lacks or has in another way. ``closable``: a person can see to it, so a group that has it is not covered."""

    label: str
    member: str
    what: str
    closable: bool = True


def gaps_of(repair: Repair, rules: CopyRules, made: Repairs | None, leaving: Collection[int] = ()) -> list[Gap]:
    """What is left after the repairs that were ``made``; None: none were asked for, and what they would do is looked at.

    What the records speak against, such as a key that was destroyed, is no gap. Nor is what a member lacks whose number is in ``leaving``.
    """
    report = repair.report
    orders, _refused = plan_copies(report.found, rules)
    tried = made or (repair.previewed().run(rules) if any(_leaves(report, order) for order in orders) else Repairs())
    closed = {_place(entry) for entry in made.repaired} if made is not None else set()
    never = {_place(entry) for entry in tried.not_repaired if entry["code"] in _NEVER}
    found = []
    for order in orders:
        place = (order.row.key_id.hex(), order.row.label, report.members[order.lacking].connection.priority)
        fixed = place in never or not _leaves(report, order)
        if place not in closed:
            found.append(_gap(report, order.row, order.lacking, _FIXED if fixed else _LACKS, closable=not fixed))
    for row in report.found:
        if rules.refusal(row) is None:
            found += [_gap(report, row, member, _OTHER) for member in row.different if member not in leaving]
            found += [_gap(report, row, member, _RENAMED) for member in row.renamed if member not in leaving]
            found += [_gap(report, row, member, _UNKNOWN, closable=False) for member in row.unknown if member not in leaving]
    return found


def _place(entry: Mapping[str, Any]) -> tuple[str, str, int]:
    return entry["id"], entry["label"], entry["to"]["priority"]


def _leaves(report: MemberReport, order: Order) -> bool:
    """Whether the key may leave its HSM at all. Most that may not are known by this alone, without another login."""
    return any(key.main.extractable is True for key in report.members[order.source].contents.keys if key.name == order.name)


def _gap(report: MemberReport, row: Disagreement, member: int, what: str, *, closable: bool = True) -> Gap:
    return Gap(row.label or row.key_id.hex(), str(report.members[member].connection), what, closable)


def judge(group: str, gaps: Sequence[Gap], unread: Sequence[Mapping[str, Any]], require: str, warn: Callable[[str], None]) -> str | None:
    """Tell what is not covered, by member. Returns why the run fails, None where it does not. ``require`` is covered, reported or none."""
    if require == "none":
        return None
    failing = [gap for gap in gaps if gap.closable and require == "covered"]
    if told := _by_member([gap for gap in gaps if gap not in failing]):
        warn(f"group '{group}': {'; '.join(told)}.")
    if require == "reported":
        return None
    lines = [f"connection {line}" for line in _by_member(failing)]
    lines += [f"connection {entry['priority']} (instance '{entry['instance']}') could not be read" for entry in unread]
    ways = [way for what, way in _WAYS_OUT.items() if any(gap.what == what for gap in failing)]
    ways += [_UNREAD] if unread else []
    return f"group '{group}' is not covered: {'; '.join(lines)}. {' '.join(ways)}" if lines else None


def _by_member(gaps: Sequence[Gap]) -> list[str]:
    labels: dict[tuple[str, str], list[str]] = {}
    for gap in gaps:
        labels.setdefault((gap.member, gap.what), []).append(gap.label)
    return [f"{member} {what.format(listed(names))}" for (member, what), names in labels.items()]
