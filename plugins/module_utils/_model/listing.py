# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""How much of what a run knows of each key it returns: the option ``results``. What is left out is counted in ``summary``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .keys.generations import split_label

ALL, CHANGED, SUMMARY = "all", "changed", "summary"
RESULTS = (ALL, CHANGED, SUMMARY)
FEW = 100  # keys that are all listed by default; above, the entries that each list has at most

_OF_KEYS = ("applied", "not_attempted", "left_overs")
_OF_SYNC = (
    "added",
    "missing",
    "missing_keys",
    "drift",
    "refreshed",
    "pruned",
    "members",
    "repaired",
    "not_repaired",
    "layout",
    "relabelled",
    "not_relabelled",
    "weak",
    "would_be_lost",
    "recalled",
    "not_recalled",
    "not_in_recall",
)


def listed_keys(values: Mapping[str, Any], asked: str | None) -> dict[str, Any]:
    """What hsm_key returns of ``values``, in which each list is whole. ``asked`` is the option, None where it was left out."""
    entries = values["key_results"]
    if asked == ALL or (asked is None and len(entries) <= FEW):
        # The older name, which Jinja2 cannot read with a dot.
        return {**values, "keys": entries}
    touched = {_key(entry) for name in ("applied", "failed_keys", "not_attempted") for entry in values[name]}
    changed = [entry for entry in entries if _key(entry) in touched or entry.get("mismatches")]
    most = _most(asked)
    # Why a key failed is told in any case.
    cut = {
        **{name: _together(values[name])[:most] for name in _OF_KEYS},
        "failed_keys": values["failed_keys"][: FEW if asked == SUMMARY else most],
    }
    # Of most keys three fields say nothing. The URI is made of others.
    left_out = {"pkcs11_uri"} if asked is None else set()
    shown = [{name: value for name, value in entry.items() if value not in (None, []) and name not in left_out} for entry in changed[:most]]
    return {**values, **cut, "key_results": shown}


def _key(entry: Mapping[str, Any]) -> tuple[int, str]:
    """Which declared key an entry is of: its label may name a generation."""
    return entry["index"], split_label(entry["label"])[0]


def _together(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keys that were declared by one range, and of which the same was done, as one entry, which counts them."""
    found: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        one = entry.get("range") is None
        shown = dict(entry) if one else {"index": entry["index"], "label": entry["range"], "action": entry["action"], "count": 0}
        known = found.setdefault(number if one else (entry["range"], entry["index"], entry["action"]), shown)
        if not one:
            known["count"] += 1
    return list(found.values())


def listed_sync(values: Mapping[str, Any], asked: str | None) -> dict[str, Any]:
    """What hsm_sync returns of ``values``, in which each list is whole."""
    summary = values["summary"]
    if asked == ALL or (asked is None and summary["added"] + summary["known"] + summary["missing"] <= FEW):
        return dict(values)
    counts = {name: len(values[name]) for name in _OF_SYNC if name != "drift"}
    shown = {**values, **{name: values[name][: _most(asked)] for name in _OF_SYNC}, "summary": {**counts, **summary}}
    # Not null: a playbook that writes it to a file is to fail, and not to write that.
    del shown["document"]
    return shown


def _most(asked: str | None) -> int | None:
    """How many entries a list has at most; None: all of them."""
    return {None: FEW, CHANGED: None, SUMMARY: 0}[asked]
