# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the probes have found, and what that says about health. Plain values, no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import speaks_of_device
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.instance_spec import InstanceSpec
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.status import TokenStatus
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.uids import prefix_order, prefixes

Slot = Mapping[str, Any]
_LAST_SEEN = ("slot_id", "label", "serial")


@dataclass(frozen=True)
class Trouble:
    """An error of a token, also after it is over. ``since`` is the first of the probes in a row that had it, ``last`` the last one."""

    error: str
    code: str
    since: float
    last: float


@dataclass(frozen=True)
class Seen:
    """One token. ``slot`` is an entry of ``slots`` of hsm_status; ``healthy`` is what the last probe that says something about it said,
    ``trouble`` the last error since the start."""

    slot: Slot
    healthy: bool = False
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Entry:
    """One instance. Times are in seconds; ``probed`` is None before its first probe."""

    spec: InstanceSpec
    prefix: str | None
    tokens: tuple[Seen, ...]
    probed: float | None = None
    took: float = 0.0
    probes: int = 0


def named(selector: TokenSelector, slot: Slot) -> str:
    """What a token is called in metrics and in the log."""
    return str(slot["label"] or (selector.value if selector.kind != "slot" else f"slot {selector.value}"))


def _unprobed(selector: TokenSelector) -> Slot:
    known: dict[str, Any] = {"slot_id" if selector.kind == "slot" else selector.kind: selector.value}
    return TokenStatus(**known, error="not probed yet", code="not_probed").as_slot()


def judged(before: Seen, slot: Slot, now: float) -> Seen:
    """A token after a probe. What is the mistake of a caller, or was not asked at all, leaves its health as it was."""
    seen = {name: before.slot[name] if slot[name] is None else slot[name] for name in _LAST_SEEN}
    decided = slot["accessible"] or speaks_of_device(slot["code"], device_fault=slot["device_fault"])
    return Seen({**slot, **seen}, slot["accessible"] if decided else before.healthy, _trouble(before, slot, now))


def _trouble(before: Seen, slot: Slot, now: float) -> Trouble | None:
    if slot["accessible"]:
        return before.trouble
    old, code = before.trouble, str(slot["code"])
    goes_on = old is not None and before.slot["code"] == code
    return Trouble(str(slot["error"] or code), code, old.since if old is not None and goes_on else now, now)


@dataclass
class Board:
    """All instances by name. ``stale_after``: seconds after which a probe's answer is no answer any more."""

    stale_after: float
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, instances: Sequence[InstanceSpec], stale_after: float, before: Board | None = None) -> Board:
        """An empty one; an instance that is declared as it was keeps what is known of it."""
        named_prefixes = prefixes((spec.model, bool(spec.tokens)) for spec in instances)
        board = cls(stale_after)
        for spec, prefix in zip(instances, named_prefixes, strict=True):
            old = before.entries.get(spec.name) if before else None
            unprobed = tuple(Seen(_unprobed(token.selector)) for token in spec.tokens)
            fresh = Entry(spec, prefix, unprobed, probes=old.probes if old else 0)
            board.entries[spec.name] = fresh if old is None or (old.spec, old.prefix) != (spec, prefix) else old
        return board

    def note(self, name: str, slots: Sequence[Slot], *, now: float, took: float) -> list[tuple[int, Seen]]:
        """Enter what a probe found, in the order of the tokens. Those of which something else is known now, with their places."""
        entry = self.entries[name]
        tokens = tuple(judged(before, slot, now) for before, slot in zip(entry.tokens, slots, strict=True))
        self.entries[name] = Entry(entry.spec, entry.prefix, tokens, now, took, entry.probes + 1)
        return [
            (place, new)
            for place, (old, new) in enumerate(zip(entry.tokens, tokens, strict=True))
            if (old.healthy, old.slot["code"]) != (new.healthy, new.slot["code"])
        ]

    def note_failure(self, name: str, error: str, code: str, *, now: float, took: float) -> list[tuple[int, Seen]]:
        """Enter a probe of an instance that gave nothing about its tokens."""
        failed = {"accessible": False, "error": error, "code": code, "probe": None, "device_fault": True}
        return self.note(name, [{**seen.slot, **failed} for seen in self.entries[name].tokens], now=now, took=took)

    def is_fresh(self, entry: Entry, now: float) -> bool:
        return entry.probed is not None and now - entry.probed <= self.stale_after

    def works(self, name: str) -> bool:
        """Whether the last probe of an instance found that all its tokens can be used."""
        return all(seen.slot["accessible"] for seen in self.entries[name].tokens)

    def healthy(self, now: float) -> bool:
        """Whether every slot of every instance is healthy, by probes that are not too old."""
        entries = self.entries.values()
        return bool(entries) and all(self.is_fresh(entry, now) and all(seen.healthy for seen in entry.tokens) for entry in entries)

    def ordered(self) -> list[Entry]:
        """By prefix, as hsm_status has them."""
        return sorted(self.entries.values(), key=lambda item: (prefix_order(item.prefix), item.spec.name))

    def status(self, now: float) -> list[dict[str, Any]]:
        """``instances`` of hsm_status, with ``healthy`` and ``age`` (seconds since the probe, None before the first) for each slot."""
        told = []
        for entry in self.ordered():
            fresh = self.is_fresh(entry, now)
            age = None if entry.probed is None else round(now - entry.probed, 1)
            slots = [{**seen.slot, "healthy": seen.healthy and fresh, "age": age} for seen in entry.tokens]
            slots.sort(key=lambda slot: (slot["slot_id"] is None, slot["slot_id"] or 0, slot["label"] or ""))
            told.append({"prefix": entry.prefix, "model": entry.spec.model, "name": entry.spec.name, "slots": slots})
        return told
