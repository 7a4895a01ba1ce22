# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What hsm_sync answers: the diff, the lists and the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..._model.keys.objects import describe_key
from ..._model.plan import CHANGE, CREATE, DELETE, Outcome, Step, diff_of
from ..._model.records import VirtualKey
from ..members.comparison import MemberReport
from ..virtual_keys.addresses import Addresses
from .export_file import ExportPlan
from .work import Work


def _record_fields(record: VirtualKey) -> dict[str, Any]:
    return {
        "id": record.key_id.hex(),
        "type": record.type,
        "size": record.size,
        "curve": record.curve,
        "operations": list(record.operations),
    }


def _steps(works: Sequence[Work], addresses: Addresses) -> list[Step]:
    named = _subjects(works, addresses)
    steps: list[Step] = []
    for work in works:
        found = {key.name: describe_key(key) for key in work.comparison.added}
        steps += [Step(CREATE, named(record), None, found.get(record.name)) for record in work.added]
        of_record = {met.record.name: describe_key(met.key) for met in work.taken_over}
        steps += [Step(CREATE, named(change.before), None, of_record.get(change.before.name)) for change in work.adopted]
        for before, after, _restored in work.refreshed:
            was, becomes = {"label": before.label, "id": before.key_id.hex()}, {"label": after.label, "id": after.key_id.hex()}
            steps.append(Step(CHANGE, named(before), was, becomes))
        for before, after in work.moved:
            steps.append(Step(CHANGE, f"virtual key {after.label}", {"address": addresses.of(before)}, {"address": addresses.of(after)}))
        steps += [Step(DELETE, named(record), _record_fields(record), None) for record in work.pruned]
    return steps


def _subjects(works: Sequence[Work], addresses: Addresses) -> Callable[[VirtualKey], str]:
    """What the diff calls a record: its UID, with the label, and if need be the kind, where several have that one."""
    records = [record for work in works for record in (*work.new, *(change.before for change in work.refreshed), *work.pruned)]
    uids = Counter(addresses.of(record) for record in records)
    longer = Counter(f"{addresses.of(record)} ({record.label})" for record in records)

    def named(record: VirtualKey) -> str:
        address = addresses.of(record)
        if uids[address] == 1:
            return address
        with_label = f"{address} ({record.label})"
        return with_label if longer[with_label] == 1 else f"{address} ({record.label}, {record.kind})"

    return named


def _outcome(
    works: Sequence[Work],
    addresses: Addresses,
    served_by: dict[str, Any] | None,
    report: MemberReport | None,
    export: ExportPlan | None,
) -> Outcome:
    added = sorted(addresses.of(record) for work in works for record in work.new)
    missing = sorted(addresses.of(record) for work in works for record in work.comparison.missing)
    drifted = [met for work in works for met in work.drifted]
    steps = _steps(works, addresses)
    if export is not None:
        steps.append(export.step)
    if report is not None:
        steps += report.steps
    return Outcome(
        changed=any(step.changes for step in steps),
        diff=diff_of(steps),
        values={
            "added": added,
            "missing": missing,
            "drift": _entries((addresses.of(met.record), met.drift) for met in drifted),
            "refreshed": _entries((addresses.of(before), restored) for work in works for before, _after, restored in work.restored),
            "pruned": sorted(addresses.of(record) for work in works for record in work.pruned),
            "members": report.rows if report is not None else [],
            "unread": report.unread if report is not None else [],
            "repaired": report.repaired if report is not None else [],
            "not_repaired": report.not_repaired if report is not None else [],
            "summary": {
                "added": len(added),
                "known": sum(len(work.comparison.met) + work.known_elsewhere for work in works),
                "missing": len(missing),
                "drifted": len(drifted),
            },
            "served_by": served_by,
        },
    )


def _entries(found: Iterable[tuple[str, Iterable[tuple[str, Any, Any]]]]) -> list[dict[str, Any]]:
    entries = [{"uid": address, "field": name, "virtual": old, "hsm": new} for address, drift in found for name, old, new in drift]
    return sorted(entries, key=lambda entry: (entry["uid"], entry["field"]))
