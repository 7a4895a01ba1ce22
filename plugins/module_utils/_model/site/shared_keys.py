# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What tokens of one label on several hosts differ in, by what each host answers of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..quoting import listed

_UID = re.compile(r"hsm::[^:]+::[0-9]+::")


def _shown(text: Any, pattern: re.Pattern[str] = _UID) -> str:
    """A UID without prefix and slot, which differ from host to host."""
    return pattern.sub("", str(text), count=1)


def _names(document: Mapping[str, Any]) -> set[str]:
    """Labels of the keys; of those that cannot be declared the label or else the CKA_ID."""
    declared = [key["label"] + (f"@{key['generation']}" if key.get("generation", 1) > 1 else "") for key in document["keys"]]
    return {*declared, *(other["label"] or other["id"] for other in document["others"])}


def _fingerprints(document: Mapping[str, Any]) -> dict[str, Any]:
    return {_shown(uid): value for uid, value in document["fingerprints"].items()}


def _unread(token: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the answer of one token by itself."""
    answer, place = token["answer"], f"{token['host']}: token '{token['label']}'"
    if not answer.get("document"):
        yield f"{place}: its keys cannot be read: {answer.get('msg', 'no answer')}"
        return
    if answer["missing"]:
        yield f"{place} does not have {listed([_shown(uid) for uid in answer['missing']])}, which the registry of this host has recorded"
    if other := sorted({_shown(row["uid"]) for row in answer["drift"] if row["field"] == "fingerprint"}):
        yield f"{place} has another key than the one that is recorded as {listed(other)}"


def _compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    ours, theirs = one["answer"]["document"], other["answer"]["document"]
    for here, there, host, has in ((ours, theirs, other, one), (theirs, ours, one, other)):
        if lacking := sorted(_names(here) - _names(there)):
            yield f"{host['host']}: token '{host['label']}' lacks {listed(lacking)}, which {has['host']} has"
    known, seen = _fingerprints(ours), _fingerprints(theirs)
    if different := sorted(name for name in known.keys() & seen.keys() if known[name] != seen[name]):
        yield f"{other['host']}: token '{other['label']}' has another key than {one['host']} as {listed(different)}"
    if (moved := sorted(known.keys() ^ seen.keys())) and _names(ours) == _names(theirs):
        yield f"{other['host']}: token '{other['label']}' has keys of other CKA_IDs than {one['host']}: {listed(moved)}"


def problems(tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each as one text. A token has ``host``, ``label`` and the host's ``answer`` with its ``document``."""
    found = [problem for token in tokens for problem in _unread(token)]
    first: dict[str, Mapping[str, Any]] = {}
    for token in tokens:
        if not token["answer"].get("document"):
            continue
        if token["label"] in first:
            found += _compared(first[token["label"]], token)
        else:
            first[token["label"]] = token
    return found
