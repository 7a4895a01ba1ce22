# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The report of a fleet: one document for programs, and what the page shows of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .answers import Due, HostReport
from .charts import by_age, chart
from .findings import BAD, KINDS, NOTE, WARN, Finding

FORMAT = "keyfleet.hsm.report/1"
STATES = {
    BAD: "something is broken or over",
    WARN: "something is due",
    NOTE: "something differs",
    "good": "all is well",
    "unknown": "not reached",
}
WORDS = {BAD: "broken", WARN: "due", NOTE: "differs", "good": "well", "unknown": "not reached"}
SHOWN = 20  # findings of one kind in the list at the top of the page
ROWS = 200  # rows of any table but that of the hosts


@dataclass(frozen=True)
class Report:
    """All hosts, in the order of their names."""

    hosts: Sequence[HostReport]
    now: datetime

    @property
    def findings(self) -> dict[str, list[Finding]]:
        """By kind, the most urgent first; kinds of which nothing was found are left out."""
        found: dict[str, list[Finding]] = defaultdict(list)
        for host in self.hosts:
            for finding in host.findings:
                found[finding.kind].append(finding)
        return {kind: found[kind] for kind in KINDS if kind in found}

    @property
    def dues(self) -> list[tuple[str, Due]]:
        return sorted(((host.name, due) for host in self.hosts for due in host.dues), key=lambda one: (one[1].days, one[0], one[1].what))

    @property
    def ages(self) -> list[float]:
        return [age for host in self.hosts for age in host.ages]

    @property
    def moment(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def versions(self) -> list[dict[str, Any]]:
        """Which library, and which model and firmware, how many tokens are behind, and on how many hosts."""
        tokens: Counter[tuple[str, str]] = Counter()
        hosts: dict[tuple[str, str], set[str]] = defaultdict(set)
        for host in self.hosts:
            for _instance, _place, _usable, library, firmware in host.tokens:
                tokens[(library, firmware)] += 1
                hosts[(library, firmware)].add(host.name)
        return [
            {"library": library, "token": firmware, "tokens": count, "hosts": len(hosts[(library, firmware)])}
            for (library, firmware), count in sorted(tokens.items())
        ]

    def document(self) -> dict[str, Any]:
        """Plain values, the same for the same answers and the same moment."""
        states = Counter(host.state for host in self.hosts)
        return {
            "format": FORMAT,
            "made_at": self.moment,
            "summary": {
                "hosts": len(self.hosts),
                "reached": sum(host.reached for host in self.hosts),
                "states": {state: states[state] for state in STATES},
                "tokens": sum(len(host.tokens) for host in self.hosts),
                "tokens_usable": sum(token[2] for host in self.hosts for token in host.tokens),
                "active_keys": len(self.ages),
                "findings": {kind: len(found) for kind, found in self.findings.items()},
            },
            "findings": [
                {"kind": kind, "tone": KINDS[kind].tone, "host": one.host, "what": one.what, "text": one.text}
                for kind, found in self.findings.items()
                for one in found
            ],
            "due": [{"host": host, "kind": due.kind, "what": due.what, "days_left": round(due.days, 1)} for host, due in self.dues],
            "versions": self.versions(),
            "hosts": [_host(host) for host in self.hosts],
        }

    def view(self) -> dict[str, Any]:
        """What the page shows. Lists that may grow with the fleet have an end, and say what they leave out."""
        states, dues, groups = Counter(host.state for host in self.hosts), self.dues, self._groups()
        urgent = [self._task(kind, found) for kind, found in self.findings.items() if KINDS[kind].tone in (BAD, WARN)]
        notes = [self._task(kind, found) for kind, found in self.findings.items() if KINDS[kind].tone == NOTE]
        return {
            "made_at": self.now.strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
            "hosts": [_row(host) for host in self.hosts],
            "count": f"{len(self.hosts):,}",
            "reached": f"{sum(host.reached for host in self.hosts):,}",
            "tasks": urgent,
            "notes": notes,
            "well": not urgent,
            "states": chart([(WORDS[state], states[state], state) for state in STATES]),
            "ages": chart(by_age(self.ages)),
            "active": f"{len(self.ages):,}",
            "dues": [{"host": host, "what": due.what, "kind": due.kind, **_left(due)} for host, due in dues[:ROWS]],
            "dues_more": max(0, len(dues) - ROWS),
            "groups": groups[:ROWS],
            "groups_more": max(0, len(groups) - ROWS),
            "covered": sum(group.disagreements == 0 and not group.unread for host in self.hosts for group in host.groups),
            "versions": self.versions()[:ROWS],
        }

    def _groups(self) -> list[dict[str, Any]]:
        """Those of which not every member is known to have every key."""
        return [
            {
                "host": host.name,
                "group": group.name,
                "tone": WARN if group.disagreements is None or not group.disagreements else BAD,
                "said": "not compared" if group.disagreements is None else f"{group.disagreements:,} keys",
                "unread": ", ".join(group.unread) or "none",
            }
            for host in self.hosts
            for group in host.groups
            if group.disagreements != 0 or group.unread
        ]

    @staticmethod
    def _task(kind: str, found: Sequence[Finding]) -> dict[str, Any]:
        known = KINDS[kind]
        return {
            "tone": known.tone,
            "title": known.title,
            "advice": known.advice,
            "count": f"{len(found):,}",
            "shown": found[:SHOWN],
            "more": f"{len(found) - SHOWN:,}" if len(found) > SHOWN else "",
        }


def _left(due: Due) -> dict[str, str]:
    tone = BAD if due.days <= 0 else WARN if due.days <= due.soon else "good"
    return {"left": f"{due.days:.0f} days", "tone": tone, "days": f"{due.days:.1f}"}


def _row(host: HostReport) -> dict[str, Any]:
    """A row of the table of hosts. What is not known is an empty text, and sorts last."""
    usable, oldest, first = sum(token[2] for token in host.tokens), max(host.ages, default=None), min(host.dues, key=_days, default=None)
    worst = min(host.findings, key=lambda one: list(KINDS).index(one.kind), default=None)
    kinds = Counter(finding.kind for finding in host.findings)
    return {
        "name": host.name,
        "state": host.state,
        "word": WORDS[host.state],
        "order": list(STATES).index(host.state) if host.state != "unknown" else -1,
        "tokens": f"{usable} of {len(host.tokens)}" if host.reached else "",
        "broken": len(host.tokens) - usable if host.reached else "",
        "active": len(host.ages) if host.reached else "",
        "oldest": "" if oldest is None else f"{oldest:.0f}",
        "due": "" if first is None else f"{first.days:.0f}",
        "due_what": "" if first is None else first.what,
        "drift": sum(kinds[kind] for kind in ("missing", "exchanged", "absent", "undeclared", "unrecorded", "differs"))
        if host.reached
        else "",
        "weak": kinds["weak"] if host.reached else "",
        "worst": "" if worst is None else KINDS[worst.kind].title,
        "what": "" if worst is None else worst.what,
        "libraries": "; ".join(dict.fromkeys(token[3] for token in host.tokens if token[3])),
        "firmware": "; ".join(dict.fromkeys(token[4] for token in host.tokens if token[4])),
    }


def _days(due: Due) -> float:
    return due.days


def _host(host: HostReport) -> dict[str, Any]:
    return {
        "name": host.name,
        "state": host.state,
        "reached": host.reached,
        "tokens": [
            {"instance": instance, "token": place, "usable": usable, "library": library, "firmware": firmware}
            for instance, place, usable, library, firmware in host.tokens
        ],
        "keys": [{"type": of[0], "state": of[1], "count": count} for of, count in sorted(host.keys.items())],
        "oldest_active_key_days": round(max(host.ages), 1) if host.ages else None,
        "groups": [{"name": group.name, "disagreements": group.disagreements, "unread": list(group.unread)} for group in host.groups],
    }
