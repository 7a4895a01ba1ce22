# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A diff of many keys for a person: one line that counts them, then one for each that changes.

It is ``prepared``, as Ansible calls it. Of two mappings Ansible would make JSON and compare that, with a dozen lines for each key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .plan import CHANGE, CREATE, DELETE, REPLACE, Step, diff_of
from .quoting import one_line

SHOWN = 50  # lines, of all sections together
# What destroys comes first: it is not to be among those that are left out.
_MARKS = {DELETE: "-", REPLACE: "-/+", CHANGE: "~", CREATE: "+"}
_COUNTED = (CREATE, REPLACE, CHANGE, DELETE)
_MISSING = object()


@dataclass(frozen=True)
class Section:
    """What becomes of the ``noun``: a step for each at most. ``total`` counts those that stay as they are, too."""

    noun: str
    steps: Sequence[Step]
    total: int

    @property
    def head(self) -> str:
        """``1,000 keys: +950 ~3 -2 =45``; the parts add up to the first number. ``-/+`` is a key that makes room for another."""
        counts = Counter(step.action for step in self.steps if step.changes)
        parts = [f"{_MARKS[action]}{counts[action]:,}" for action in _COUNTED if counts[action] or action != REPLACE]
        return f"{self.total:,} {self.noun}{'' if self.total == 1 else 's'}: {' '.join(parts)} ={self.total - counts.total():,}"


def prepared_diff(*sections: Section) -> dict[str, Any]:
    """The sections that change something as Ansible's diff."""
    changing = [section for section in sections if any(step.changes for step in section.steps)]
    if not changing:
        return diff_of([])
    lines, left = [], SHOWN
    for section in changing:
        steps = [step for action in _MARKS for step in section.steps if step.action == action]
        alike = _alike(steps)
        lines += [section.head, *(_line(together, section.noun) for together in alike[:left])]
        if len(alike) > left:
            lines.append(f"... and {sum(map(len, alike[left:])):,} more")
        left = max(0, left - len(alike))
    return {"prepared": "".join(f"{line}\n" for line in lines)}


def _alike(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps of each line: those that were declared together, and of which there is the same to say."""
    found: dict[Any, list[Step]] = {}
    for number, step in enumerate(steps):
        found.setdefault(number if step.part_of is None else (step.part_of, step.action, tuple(_fields(step))), []).append(step)
    return list(found.values())


def _line(steps: Sequence[Step], noun: str) -> str:
    step = steps[0]
    texts = list(_fields(step))
    if step.action == REPLACE:
        texts.insert(0, "destroyed and made anew")
    subject = step.subject
    if len(steps) > 1:
        subject = f"{step.part_of} ({len(steps):,} {noun}s)"
    return one_line(f"{_MARKS[step.action]} {subject}{': ' * bool(texts)}{', '.join(texts)}")


def _fields(step: Step) -> Iterator[str]:
    before, after = step.before, step.after
    if before is not None and after is not None:
        for name in {**before, **after}:
            was, becomes = before.get(name, _MISSING), after.get(name, _MISSING)
            if was != becomes:
                yield f"{name} {_text(was)} -> {_text(becomes)}"
        return
    for name, value in (before if before is not None else after or {}).items():
        if value is not None and not (name == "id" and _is_named(step.subject, value)):
            yield f"{name} {_text(value)}"


def _is_named(subject: str, key_id: str) -> bool:
    """Whether the subject ends with the text of this id, as where the label is the id."""
    text = bytes.fromhex(key_id).decode("utf-8", "replace")
    return bool(text) and subject.endswith((f" {text}", f":{text}"))


def _text(value: Any) -> str:
    if value is _MISSING or value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name} {_text(item)}' for name, item in value.items())})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
