# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One trial: the run with its fault, a run without one, and one more. What is wrong with it, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from .points import WRITES, Point, points
from .scratch import Answer, Site
from .states import BYSTANDERS, State, set_up
from .view import View, vouched_for

_LABELS = [key["label"] for key in BYSTANDERS]
# What an answer says where it cannot be known whether something was written.
_UNSURE = ("could not be read", "may still be on the token", "may have", "is not known")


@dataclass
class Result:
    """A state's trials: how many points, calls, and unsure answers; what was wrong, by point."""

    state: State
    calls: int = 0
    points: int = 0
    unsure: int = 0
    violations: list[str] = field(default_factory=list)


class Trial:
    """A state that was set up, and how its run ends when nothing fails."""

    def __init__(self, site: Site, state: State) -> None:
        self.site, self.state = site, state
        self.args = set_up(site, state)
        # A copy of the tokens, as every trial has one: SoftHSM lists objects and slots in the order of their files in the folder.
        site.restore()
        self.before = site.look()
        first = self._run("")
        assert first.values and not first.failed, first
        self.calls = site.calls()
        self.end = site.look()
        self.unsure = 0

    def _run(self, plan: str) -> Answer:
        return self.site.call(self.state.module, self.args, plan)

    def try_at(self, point: Point) -> Iterator[str]:
        """Everything that is wrong with what comes of this point."""
        self.site.restore()
        answer, made = self._run(point.plan), len(self.site.calls())
        if made < point.number:
            yield f"the run made {made} calls: not the one that was recorded"
        after = self.site.look()
        yield from self._told(point, answer, after)
        yield from self._kept(after)
        vouched = vouched_for(self.site.registry)
        again = self._run("")
        if point.function == "C_SetPIN" and again.values.get("failure", {}).get("code") == "pin_incorrect":
            # Only a login could tell which PIN is in force after an error. One was refused: the operator looks, and gives his word.
            self.unsure += 1
            again = self.site.call(self.state.module, {**self.args, "allow_low_pin_count": True})
        end = self.site.look()
        if again.failed or not again.values:
            yield f"the next run failed: {_text(again)}"
            return
        # That a copy which was cut off is whole is told once it was looked at, as a change: the run that made it could not.
        if again.values["changed"] is not (end != after or vouched_for(self.site.registry) > vouched):
            yield f"the next run says changed={again.values['changed']}, and {_differences(after, end) or 'nothing changed'}"
        if end.without_values() != self.end.without_values():
            yield f"the next run ends elsewhere: {_differences(self.end.without_values(), end.without_values())}"
        yield from self._kept(end)
        last = self._run("")
        if last.failed or last.values.get("changed") is not False or self.site.look() != end:
            yield f"the run after that is not one without a change: {_text(last)}"

    def _told(self, point: Point, answer: Answer, after: View) -> Iterator[str]:
        if point.kills:
            if not answer.values:
                yield f"no answer, exit code {answer.code}"
            elif not answer.values.get("changed") and after != self.before:
                yield f"says changed=false, and {_differences(self.before, after)}: {_text(answer)}"
            return
        if not answer.values:
            yield f"no answer, exit code {answer.code}: {answer.errors[-300:]}"
            return
        if answer.errors or "Traceback" in str(answer.values):
            yield f"a traceback: {answer.errors[-300:] or _text(answer)}"
        failed, changed = answer.failed, answer.values.get("changed", False)
        text = f"{answer.values.get('msg')} {answer.values.get('failure')}"
        if failed and answer.values.get("failure", {}).get("code") in (None, "unexpected"):
            yield f"an unexpected error: {_text(answer)}"
        if failed and not any(rv in text for rv in point.causes):
            yield f"the cause is lost, which is {point.rv}: {_text(answer)}"
        if not changed and after != self.before:
            yield f"says changed=false, and {_differences(self.before, after)}: {_text(answer)}"
        if changed and after == self.before:
            if failed and any(words in text for words in _UNSURE):
                self.unsure += 1
            else:
                yield f"says changed=true, and nothing is: {_text(answer)}"
        yield from self._keys_told(answer, after)

    def _keys_told(self, answer: Answer, after: View) -> Iterator[str]:
        """Of hsm_key: a key that is said to be there is, and one that is not is not."""
        there = after.labels()
        for entry in answer.values.get("key_results", []):
            label = entry["label"] + (f"@{entry['generation']}" if entry["generation"] > 1 else "")
            gone = entry["state"] in ("absent", "destroyed")
            if entry["state"] != "failed" and gone is (label in there):
                yield f"says that '{label}' is {entry['state']}, and the token has {sorted(there)}"

    def _kept(self, view: View) -> Iterator[str]:
        if view.of(_LABELS) != self.before.of(_LABELS):
            yield f"another key was touched: {_differences(self.before, view)}"


def drawn(seed: str, *words: object) -> int:
    """A number that looks drawn and is the same each time: a gate that fails has to fail again."""
    return int.from_bytes(sha256(" ".join(map(str, (seed, *words))).encode()).digest()[:8], "big")


def run_state(site: Site, state: State, *, every: int = 1, sample: str = "") -> Iterator[Result | str]:
    """A line for each violation, and at the end the result. ``sample`` is the seed of two points, one of a call that writes."""
    trial, result = Trial(site, state), Result(state)
    result.calls = len(trial.calls)
    chosen = list(points(trial.calls, every=every))
    if sample:
        kinds = [[point for point in chosen if (point.function in WRITES) is writes] for writes in (True, False)]
        chosen = [kind[drawn(sample, state.name, number) % len(kind)] for number, kind in enumerate(kinds) if kind]
    for point in chosen:
        result.points += 1
        for text in trial.try_at(point):
            result.violations.append(f"{point}: {text}")
            yield f"{state.name}: {point}: {text}"
    result.unsure = trial.unsure
    yield result


def _text(answer: Answer) -> str:
    values: dict[str, Any] = answer.values
    return f"{values.get('msg')} ({values.get('failure')}, changed={values.get('changed')})"[:600]


def _differences(one: View, other: View) -> str:
    found = []
    for name in ("objects", "pins", "records", "tokens", "files"):
        before, after = set(getattr(one, name)), set(getattr(other, name))
        if before != after:
            found.append(f"{name}: gone {_short(before - after)}, new {_short(after - before)}")
    return "; ".join(found)[:900]


def _short(items: set[str]) -> list[str]:
    """Objects by label and class, and what else there is as it is."""
    found = []
    for item in sorted(items):
        fields = json.loads(item) if item.startswith("{") else {}
        found.append(f"{fields['LABEL']} (class {fields.get('CLASS')})" if fields else item)
    return found
