# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What one host has answered, as a value for the report. Fields that are not known here are left out, so no PIN comes along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..durations import parse_duration
from ..export_document import plain_text
from ..keys.generations import stored_label
from ..keys.ranges import declared_labels
from ..keys.spec import PRESENT
from ..keys.states import ACTIVE, DESTROYED
from .findings import BAD, NOTE, WARN, Finding

DAY = 24 * 3600.0
_LONGEST = 400  # characters of an error
_PIN_CODES = ("pin_", "user_pin_")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Due:
    """A rotation or a certificate's end. ``days`` are left, below 0 it is over; ``soon`` is how many days before it is told."""

    kind: str
    what: str
    days: float
    soon: float

    def as_finding(self, host: str) -> Finding | None:
        over, near = {"rotation": ("rotation_overdue", "rotation_due"), "certificate": ("certificate_ended", "certificate_due")}[self.kind]
        if self.days > self.soon:
            return None
        left = f"{self.days:.0f} days left" if self.days > 0 else f"{-self.days:.0f} days ago"
        return Finding(over if self.days <= 0 else near, host, self.what, left)


@dataclass(frozen=True)
class Group:
    """``disagreements``: keys that a member lacks or has in another way; None where it could not be compared."""

    name: str
    disagreements: int | None
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostReport:
    """One host. ``tokens`` are (instance, token, usable, library, firmware); ``ages`` the days of each active key."""

    name: str
    reached: bool
    findings: tuple[Finding, ...]
    tokens: tuple[tuple[str, str, bool, str, str], ...] = ()
    ages: tuple[float, ...] = ()
    keys: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dues: tuple[Due, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def state(self) -> str:
        """The worst of what was found."""
        if not self.reached:
            return "unknown"
        tones = {finding.tone for finding in self.findings}
        return next((tone for tone in (BAD, WARN, NOTE) if tone in tones), "good")


@dataclass(frozen=True)
class Answers:
    """The registered results of one host: of hsm_status_info, and of hsm_sync for groups and instances. ``declared`` is what
    site_findings says. ``soon``: days before a due day that it is told."""

    host: str
    found: Entry
    groups: Sequence[Entry]
    instances: Sequence[Entry]
    declared: Entry
    now: datetime
    soon: float

    def report(self) -> HostReport:
        unread = [] if self.declared else ["the variables of this host could not be read"]
        findings = [Finding("declaration", self.host, "", text(problem)) for problem in (*unread, *_list(self.declared, "problems"))]
        if self.found.get("unreachable") or not self.found:
            said = text(self.found.get("msg") or "the host was not asked")
            return HostReport(self.host, False, (Finding("unreachable", self.host, "", said), *findings))
        if self.found.get("failed") or "instances" not in self.found:
            said = text(self.found.get("msg") or "the look gave no answer")
            return HostReport(self.host, False, (Finding("not_looked", self.host, "", said), *findings))
        dues = tuple(sorted((*self._rotations(), *self._certificates()), key=lambda due: (due.days, due.kind, due.what)))
        findings += [found for due in dues if (found := due.as_finding(self.host)) is not None]
        findings += [*self._tokens(), *self._registered(), *self._compared()]
        active = [age for key in self._keys() if key["state"] == ACTIVE and (age := self._age(key.get("since"))) is not None]
        counts = Counter((text(key["type"]), text(key["state"])) for key in self._keys())
        tokens = tuple(_token(instance, slot) for instance, slot in self._slots())
        unique = tuple(dict.fromkeys(findings))
        return HostReport(self.host, True, unique, tokens, tuple(sorted(active)), counts, dues, tuple(self._groups()))

    def _slots(self) -> Iterator[tuple[Entry, Entry]]:
        for instance in _list(self.found, "instances"):
            for slot in _list(instance, "slots"):
                yield instance, slot

    def _keys(self) -> list[Entry]:
        return _list(self.found, "keys_recorded")

    def _declared_keys(self) -> Iterator[Entry]:
        """An entry for each key of a range."""
        for key in _list(self.declared, "keys"):
            for label in declared_labels(key["label"], key.get("id")):
                yield {**key, "label": label}

    def _age(self, moment: Any) -> float | None:
        """Days since then; below 0 before it."""
        try:
            then = datetime.strptime(str(moment), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            return None
        return (self.now - then).total_seconds() / DAY

    def _tokens(self) -> Iterator[Finding]:
        for instance, slot in self._slots():
            if not slot.get("accessible"):
                kind = "pin" if str(slot.get("code")).startswith(_PIN_CODES) else "token"
                yield Finding(kind, self.host, _place(instance, slot), text(slot.get("error")))
        if not any(True for _slot in self._slots()):
            yield Finding("absent", self.host, "", "no token is registered")

    def _rotations(self) -> Iterator[Due]:
        """Of each declared key with max_age, by its newest active generation: the next one is made ``lead`` before that age."""
        newest: dict[tuple[str, str, str], float] = {}
        for key in self._keys():
            age = self._age(key.get("since"))
            if key["state"] != ACTIVE or age is None:
                continue
            for place in ((key["instance"], "", key["label"]), ("", key.get("group") or "", key["label"])):
                newest[place] = min(age, newest.get(place, age))
        for key in self._declared_keys():
            place = (key.get("instance") or "", key.get("group") or "", key["label"])
            if key.get("max_age") is not None and place in newest:
                days = (key["max_age"] - (key.get("lead") or 0)) / DAY
                yield Due("rotation", _key_name(key, key["label"]), days - newest[place], self.soon)

    def _certificates(self) -> Iterator[Due]:
        """Of several with one label and CKA_ID on a token, and of the generations of a key, the one that ends last serves."""
        later = [key for key in self._keys() if key["generation"] > 1]
        bases = {(key["instance"], label): key["label"] for key in later for label in _labels(key)}
        ends: dict[tuple[str, str, str], float] = {}
        for instance, slot in self._slots():
            for one in _list(slot, "certificates"):
                age, base = self._age(one.get("not_after")), bases.get((instance.get("name"), one["label"]))
                if age is not None:
                    what = (_place(instance, slot), one["label"] if base is None else base, one["id"] if base is None else "")
                    ends[what] = max(-age, ends.get(what, -age))
        wanted = {str(one.get("key_label")): _days(one.get("renew_before")) for one in _list(self.declared, "certificates")}
        for (place, label, _key_id), days in ends.items():
            before = wanted.get(label)
            yield Due("certificate", f"{place}: {text(label)}", days, self.soon if before is None else before)

    def _registered(self) -> Iterator[Finding]:
        """What is declared and not there, and the other way round."""
        undeclared = self.found.get("undeclared") or {}
        for name in _list(undeclared, "instances"):
            yield Finding("undeclared", self.host, f"instance {text(name)}")
        for token in _list(undeclared, "tokens"):
            yield Finding("undeclared", self.host, f"token {text(token.get('token'))} of {text(token.get('instance'))}")
        for name in _list(undeclared, "groups"):
            yield Finding("undeclared", self.host, f"group {text(name)}")
        names = self.declared.get("declared") or {}
        there = {str(instance.get("name")) for instance in _list(self.found, "instances")}
        for one in _list(names, "instances"):
            if str(one.get("name")) not in there:
                yield Finding("absent", self.host, f"instance {text(one.get('name'))}")
        known = {str(group.get("name")) for group in _list(self.found, "groups")}
        for name in _list(names, "groups"):
            if str(name) not in known:
                yield Finding("absent", self.host, f"group {text(name)}")
        there_now = [key for key in self._keys() if key["state"] != DESTROYED]
        recorded = {(place, label) for key in there_now for place in _places(key) for label in _labels(key)}
        for key in self._declared_keys():
            place = str(key.get("group") or key.get("instance"))
            if key.get("state") == PRESENT and (place, key["label"]) not in recorded:
                yield Finding("absent", self.host, _key_name(key, key["label"]))

    def _compared(self) -> Iterator[Finding]:
        for scope, result in self._syncs():
            if result.get("failed"):
                yield Finding("not_compared", self.host, scope, text(result.get("msg")))
                continue
            if result.get("skipped"):
                yield Finding("not_compared", self.host, scope, "a token of it cannot be used")
                continue
            for uid in _list(result, "missing"):
                yield Finding("missing", self.host, text(uid))
            for uid in _list(result, "added"):
                yield Finding("unrecorded", self.host, text(uid))
            for drift in _list(result, "drift"):
                other = drift.get("field") in ("fingerprint", "state", "kind")
                differs = f"{text(drift.get('field'))}: recorded {_short(drift.get('virtual'))}, the HSM has {_short(drift.get('hsm'))}"
                yield Finding("exchanged" if other else "differs", self.host, text(drift.get("uid")), differs)
            for weak in _list(result, "weak"):
                exposed = ", ".join(text(key.get("label")) for key in _list(weak, "exposes")[:5])
                yield Finding("weak", self.host, f"{text(weak.get('token'))}: {text(weak.get('label'))}", f"gives away {exposed}")
            for row in _list(result, "members"):
                yield Finding("not_covered", self.host, f"{scope}: {text(row.get('label'))}", _disagreement(row))
            for one in _list(result, "unread"):
                yield Finding("not_compared", self.host, f"{scope}, member {text(one.get('instance'))}", text(one.get("error")))

    def _syncs(self) -> Iterator[tuple[str, Entry]]:
        for results, word, key in ((self.groups, "group", "name"), (self.instances, "instance", None)):
            for result in results:
                item = result.get("item")
                yield f"{word} {text(item.get(key) if key and isinstance(item, Mapping) else item)}", result

    def _groups(self) -> Iterator[Group]:
        for result in self.groups:
            name = text((result.get("item") or {}).get("name"))
            if result.get("failed") or result.get("skipped"):
                yield Group(name, None)
            else:
                unread = tuple(text(one.get("instance")) for one in _list(result, "unread"))
                yield Group(name, len(_list(result, "members")), unread)


def _days(duration: Any) -> float | None:
    try:
        return parse_duration(str(duration)) / DAY
    except ValueError:
        return None


def _list(value: Entry, name: str) -> list[Any]:
    found = value.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def _labels(key: Entry) -> set[str]:
    """By which a recorded key is declared: that of all its generations, and its own."""
    return {key["label"], stored_label(key["label"], key["generation"])}


def _places(key: Entry) -> list[str]:
    return [str(place) for place in (key["instance"], key.get("group")) if place]


def _place(instance: Entry, slot: Entry) -> str:
    label = slot.get("label") or f"slot {slot.get('slot_id') if slot.get('slot_id') is not None else '?'}"
    return f"{text(instance.get('name'))}/{text(label)}"


def _key_name(key: Entry, label: Any) -> str:
    return f"{'group ' + text(key['group']) if key.get('group') else text(key.get('instance'))}: {text(label)}"


def _token(instance: Entry, slot: Entry) -> tuple[str, str, bool, str, str]:
    of = slot.get("versions") or {}
    firmware = " ".join(text(of.get(name)) for name in ("model", "firmware") if of.get(name))
    return text(instance.get("name")), _place(instance, slot), bool(slot.get("accessible")), text(of.get("library") or ""), firmware


def _short(value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text(shown, 80)


def _disagreement(row: Entry) -> str:
    parts = []
    for name, words in (("lack", "lacks it"), ("different", "has another key"), ("twice", "has it twice"), ("renamed", "has it renamed")):
        who = [text(member.get("instance")) for member in _list(row, name)]
        if who:
            parts.append(f"{', '.join(who)} {words}")
    unknown = [text(member.get("instance")) for member in _list(row, "unknown")]
    return "; ".join([*parts, *([f"{', '.join(unknown)} cannot be compared"] if unknown else [])])


def text(value: Any, most: int = _LONGEST) -> str:
    """One line for a page: what cannot be printed is escaped, and it has an end."""
    shown = plain_text(" ".join(str(value if value is not None else "").split()))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
