# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What hsm_sync answers, from the plans and what was done of them: the diff, the lists and the summary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._model.diff_text import Section, prepared_diff
from ..._model.grouping import grouped_texts
from ..._model.keys.objects import Key, describe_key
from ..._model.plan import CHANGE, CREATE, DELETE, Outcome, Step, diff_of
from ..._model.recall import Recall, fields_of
from ..._model.records import VirtualKey
from ..members.comparison import MemberReport
from ..members.repair import Repairs
from ..virtual_keys.addresses import Addresses
from ..virtual_keys.contents import TokenContents
from ..virtual_keys.exposed import exposures
from .export_file import ExportPlan
from .plan import Change, RecordChanges, SyncPlan
from .relabel import Relabelled


@dataclass(frozen=True)
class Written:
    """What was done of each plan, in check mode what would be; the virtual keys as a document; what became of the file; and what of an
    earlier document was taken over."""

    done: Sequence[RecordChanges]
    document: Mapping[str, Any] | None = None
    export: ExportPlan | None = None
    recalled: Recall = field(default_factory=Recall)


def _record_fields(record: VirtualKey) -> dict[str, Any]:
    return {
        "id": record.key_id.hex(),
        "type": record.type,
        "size": record.size,
        "curve": record.curve,
        "operations": list(record.operations),
    }


def _steps(done: Sequence[RecordChanges], addresses: Addresses) -> list[Step]:
    named = _subjects(done, addresses)
    steps: list[Step] = []
    for changes in done:
        steps += [Step(CREATE, named(new.record), None, describe_key(new.key)) for new in changes.added]
        steps += [Step(CREATE, named(change.before), None, describe_key(change.key)) for change in changes.adopted]
        steps += [_touched_step(named(same[0].before), same, addresses) for same in _touched(changes).values()]
        steps += [Step(DELETE, named(record), _record_fields(record), None) for record in changes.pruned]
    # A token gives its objects in another order each time, and check mode is to show the same diff.
    return sorted(steps, key=lambda step: step.subject)


def _touched(changes: RecordChanges) -> dict[object, list[Change]]:
    """What becomes of the records that stay: one may have a name restored, and be found on another token besides."""
    found: dict[object, list[Change]] = defaultdict(list)
    for change in (*changes.refreshed, *changes.moved):
        found[change.before.id or change.before].append(change)
    return found


def _touched_step(subject: str, same: Sequence[Change], addresses: Addresses) -> Step:
    was: dict[str, Any] = {}
    becomes: dict[str, Any] = {}
    for before, after, _key, restored in same:
        if restored:
            was |= {"label": before.label, "id": before.key_id.hex()}
            becomes |= {"label": after.label, "id": after.key_id.hex()}
        else:
            was["address"], becomes["address"] = addresses.of(before), addresses.of(after)
    return Step(CHANGE, subject, was, becomes)


def _subjects(done: Sequence[RecordChanges], addresses: Addresses) -> Callable[[VirtualKey], str]:
    """What the diff calls a record: its UID, with the label, and if need be the kind, where several have that one."""
    records = [record for made in done for record in (*made.new, *(same[0].before for same in _touched(made).values()), *made.pruned)]
    uids = Counter(addresses.of(record) for record in records)
    longer = Counter(f"{addresses.of(record)} ({record.label})" for record in records)

    def named(record: VirtualKey) -> str:
        address = addresses.of(record)
        if uids[address] == 1:
            return address
        with_label = f"{address} ({record.label})"
        return with_label if longer[with_label] == 1 else f"{address} ({record.label}, {record.kind})"

    return named


def outcome_of(
    plans: Sequence[SyncPlan],
    written: Written,
    addresses: Addresses,
    *,
    served_by: dict[str, Any] | None = None,
    report: MemberReport | None = None,
    repairs: Repairs | None = None,
    relabelled: Sequence[Relabelled] = (),
    lost: Sequence[Mapping[str, Any]] = (),
) -> Outcome:
    """What hsm_sync returns."""
    done = written.done
    added = sorted(addresses.of(record) for changes in done for record in changes.new)
    missing = sorted((addresses.of(record), record.label, record.key_id.hex()) for plan in plans for record in plan.missing)
    drifted = [match for plan in plans for match in plan.drifted]
    steps = _steps(done, addresses)
    known = sum(plan.known for plan in plans)
    copies = repairs.steps if repairs is not None else ()
    moved = [step for one in relabelled for step in one.steps]
    recalled = [(addresses.of(after), fields_of(before, after)) for before, after in written.recalled.changes]
    recalls = [
        Step(CHANGE, uid, {name: of["was"] for name, of in found.items()}, {name: of["is"] for name, of in found.items()})
        for uid, found in recalled
    ]
    diff = prepared_diff(
        Section("key", steps, len(added) + known + len(missing)),
        Section("recalled key", recalls, len(recalls)),
        Section("copied key", copies, len(copies)),
        Section("relabelled object", moved, len(moved)),
    )
    file = written.export.step if written.export is not None else None
    broken = [*(repairs.broken if repairs is not None else ()), *(entry for one in relabelled for entry in one.broken)]
    left = (repairs is not None and repairs.left) or any(one.touched for one in relabelled)
    shown = [*steps, *recalls, *copies, *moved, *([file] if file is not None else [])]
    return Outcome(
        changed=any(step.changes for step in shown) or left,
        failure=_broken(broken, "copied" if repairs is not None else "relabelled") if broken else None,
        failure_code=str(broken[0]["code"]) if broken else "unexpected",
        diff=[diff, diff_of([file])] if file is not None and file.changes else diff,
        values={
            "added": added,
            "missing": [uid for uid, _label, _id in missing],
            "missing_keys": [{"uid": uid, "label": label, "id": key_id} for uid, label, key_id in missing],
            "drift": _entries((addresses.of(match.record), match.drift) for match in drifted),
            "refreshed": _entries((addresses.of(change.before), change.restored) for changes in done for change in changes.restored),
            "pruned": sorted(addresses.of(record) for changes in done for record in changes.pruned),
            "members": report.rows if report is not None else [],
            "unread": list(report.unread) if report is not None else [],
            "repaired": list(repairs.repaired) if repairs is not None else [],
            "not_repaired": list(repairs.not_repaired) if repairs is not None else [],
            "layout": [misfit.shown() for plan in plans for misfit in plan.contents.misfits],
            "relabelled": [entry for one in relabelled for entry in one.done],
            "not_relabelled": [entry for one in relabelled for entry in one.left],
            "weak": _weak([member.contents for member in report.members] if report is not None else [plan.contents for plan in plans]),
            "would_be_lost": list(lost),
            "recalled": sorted(
                ({"uid": uid, "field": name, **of} for uid, found in recalled for name, of in found.items()),
                key=lambda entry: (entry["uid"], entry["field"]),
            ),
            "not_recalled": sorted(written.recalled.left, key=lambda entry: (entry["label"], entry["id"], entry.get("field", ""))),
            "not_in_recall": sorted(map(addresses.of, written.recalled.unknown)),
            "summary": {"added": len(added), "known": known, "missing": len(missing), "drifted": len(drifted)},
            "served_by": served_by,
            "document": written.document,
        },
    )


def _broken(entries: Sequence[Mapping[str, Any]], what: str) -> str:
    causes = grouped_texts(((entry["label"], entry["reason"]) for entry in entries), label_first=True)
    return f"{len(entries)} of the {'missing keys' if what == 'copied' else 'objects'} could not be {what}: {'; '.join(causes[:5])}"


def _weak(tokens: Iterable[TokenContents]) -> list[dict[str, Any]]:
    """Keys that may wrap and decrypt, and what each gives away, by name."""
    return [
        {"token": contents.token, **_named(by), "exposes": [_named(key) for key in keys]}
        for contents in tokens
        for by, keys in exposures(contents.keys)
    ]


def _named(key: Key) -> dict[str, str]:
    return {"label": key.main.label, "id": key.main.key_id.hex()}


def _entries(found: Iterable[tuple[str, Iterable[tuple[str, Any, Any]]]]) -> list[dict[str, Any]]:
    entries = [{"uid": address, "field": name, "virtual": old, "hsm": new} for address, drift in found for name, old, new in drift]
    return sorted(entries, key=lambda entry: (entry["uid"], entry["field"]))
