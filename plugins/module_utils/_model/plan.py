# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A plan: every step with its before and after, made before anything is written. Its diff is the same in check mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

CREATE, CHANGE, REPLACE, DELETE, KEEP = "create", "change", "replace", "delete", "keep"


@dataclass(frozen=True)
class Step:
    """One subject of a plan. ``before`` and ``after`` are plain values for the diff; None: it is not there. ``part_of`` is the subject
    that it was declared in together with others."""

    action: str
    subject: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    part_of: str | None = None

    @property
    def changes(self) -> bool:
        return self.action != KEEP


def diff_of(steps: list[Step]) -> dict[str, Any]:
    """The steps that change something as Ansible's diff: two mappings from subject to what it was and will be."""
    changing = [step for step in steps if step.changes]
    return {
        "before": {step.subject: dict(step.before) for step in changing if step.before is not None},
        "after": {step.subject: dict(step.after) for step in changing if step.after is not None},
    }


@dataclass
class Context:
    """What a run knows beside its parameters. ``warn`` shows a text to the person who runs the play. ``command`` is Ansible's
    run_command: return code, output, errors. ``fetch`` gets a page: see ``_module.fetch``."""

    check_mode: bool
    run: str
    warn: Callable[[str], None]
    command: Callable[..., tuple[int, str, str]] | None = None
    fetch: Callable[..., tuple[int, bytes]] | None = None


@dataclass
class Outcome:
    """What a run gives back. ``failure`` is an error's text when the run failed although parts of it were done."""

    changed: bool
    diff: dict[str, Any] | list[dict[str, Any]] = field(default_factory=lambda: {"before": {}, "after": {}})
    values: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    failure_code: str = "unexpected"
    failure_details: dict[str, Any] = field(default_factory=dict)
