# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which generation of a key a service uses: the one whose certificate it is given. Nothing else says when everybody is ready for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .consumer_leavings import assignments
from .keys.generations import split_label

_NO_MATTER = ("mechanisms", "probe", "capabilities")  # steps of hsm_info
_NOTHING = "Nothing of the consumers was changed."
_DOUBT = "the token has more generations of it than are shown, or one cannot be read. Give the label of the generation, without generation."
_OBJECT = re.compile(r";object=([^;]+)")


@dataclass
class Followed:
    """``current`` are labels by the names of consumer and key. ``unseen`` are the keys of which a preview cannot tell."""

    current: dict[str, dict[str, str]] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def follow(
    consumers: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    fingerprints: Mapping[str, str],
    texts: Mapping[str, str],
    *,
    preview: bool,
) -> Followed:
    """For each key of ``consumers``, those of the plan, that follows its certificate: the label of the generation that this is of.

    ``looks`` are hsm_info's answers, each with the names of its consumers in ``item.names``. ``fingerprints`` are those of the public keys
    of certificates, by the files of these. ``texts`` are what an earlier run has written: it counts in a ``preview``, which looks without a
    login, where nobody knows better. Otherwise what nobody knows is a problem.
    """
    found = Followed()
    for one in consumers:
        look = next((look for look in looks if one["name"] in look["item"]["names"]), {})
        for key in one["keys"]:
            if not key["follows"]:
                continue
            label, problem = _label(key, fingerprints.get(key["certificate"], ""), look)
            if label is None and not preview:
                problem = problem or _DOUBT
            if problem:
                found.problems.append(f"client_consumers: {one['name']}: keys: {key['follows']}: {problem}")
                continue
            if label is None:
                found.unseen.append(f"{one['name']}: {key['follows']}")
            found.current.setdefault(one["name"], {})[key["name"]] = label or _before(one, key, texts)
    return found


def _is_whole(look: Mapping[str, Any]) -> bool:
    """Whether hsm_info has told of all objects."""
    broken = [problem for problem in look.get("problems", []) if problem["step"] not in _NO_MATTER]
    told = "objects" in look and not broken and "objects" not in look["left_off"]
    return told and all(item["code"] is None for item in look["objects"])


def _label(key: Mapping[str, Any], fingerprint: str, look: Mapping[str, Any]) -> tuple[str | None, str]:
    """The label, and what is wrong. Neither where nobody can tell: without a login some tokens show no public keys, or not all."""
    if not fingerprint or not _is_whole(look):
        return None, ""
    follows, certificate = key["follows"], key["certificate"]
    public = {(item["label"], item["fingerprint"]) for item in look["objects"] if item["class"] == "public" and _is_of(item, follows)}
    labels: list[str] = sorted(label for label, found in public if found == fingerprint)
    private = {item["label"] for item in look["objects"] if item["class"] == "private"}
    if not labels and not look["login"]:
        return None, ""
    if len(labels) > 1:
        return None, f"the certificate in {certificate} is that of {' and '.join(labels)}: give the label of one, without generation"
    if labels and look["login"] and labels[0] not in private:
        return None, f"the token has no private key {labels[0]}, which the certificate in {certificate} is of. {_NOTHING}"
    if labels:
        return labels[0], ""
    if hidden := sorted(label for label, found in public if found is None):
        return None, f"the token does not give the public key of {', '.join(hidden)}: give the label of one, without generation"
    there = ", ".join(sorted({label for label, _found in public})) or "none"
    return None, (
        f"the certificate in {certificate} matches no generation of {follows} on the token. Public keys of it there: {there}. Give the "
        f"certificate of one of them. {_NOTHING}"
    )


def _is_of(item: Mapping[str, Any], follows: str) -> bool:
    return split_label(item["label"])[0] == follows


def _before(one: Mapping[str, Any], key: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    for given in assignments(texts.get(f"{one['folder']}/keys", "")).get("KEYS", "").split():
        name, _equals, uri = given.partition("=")
        match = _OBJECT.search(uri)
        label = unquote(match[1]) if match else ""
        if name == key["name"] and split_label(label)[0] == key["follows"]:
            return label
    return str(key["follows"])
