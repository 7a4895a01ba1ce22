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
_OBJECT = re.compile(r";object=([^;]+)")


@dataclass
class Followed:
    """``current`` are labels by the names of consumer and key. ``unseen`` are the keys of tokens that could not be looked at."""

    current: dict[str, dict[str, str]] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def follow(
    consumers: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    fingerprints: Mapping[str, str],
    texts: Mapping[str, str],
) -> Followed:
    """For each key of ``consumers``, those of the plan, that follows its certificate: the label of the generation that this is of.

    ``looks`` are hsm_info's answers, each with the names of its consumers in ``item.names``. ``fingerprints`` are those of the public keys
    of certificates, by the files of these. ``texts`` are what an earlier run has written: it counts where nobody knows better.
    """
    found = Followed()
    for one in consumers:
        for key in one["keys"]:
            if not key["follows"]:
                continue
            objects = _objects(looks, one["name"])
            label: str | list[str]
            if objects is None:
                found.unseen.append(f"{one['name']}: {key['follows']}")
                label = _before(one, key, texts)
            else:
                label = _label(key, fingerprints.get(key["certificate"], ""), objects)
            if isinstance(label, str):
                found.current.setdefault(one["name"], {})[key["name"]] = label
            else:
                found.problems += [f"client_consumers: {one['name']}: keys: {key['follows']}: {text}" for text in label]
    return found


def _objects(looks: Sequence[Mapping[str, Any]], name: str) -> Sequence[Mapping[str, Any]] | None:
    """What is on the consumer's token of its keys; None where nobody knows all of it."""
    for look in looks:
        if name not in look["item"]["names"]:
            continue
        objects: Sequence[Mapping[str, Any]] = look.get("objects", [])
        # Some tokens show public keys after a login only.
        told = "objects" in look and (look["login"] or bool(objects))
        broken = [problem for problem in look.get("problems", []) if problem["step"] not in _NO_MATTER]
        if told and not broken and "objects" not in look["left_off"] and all(item["code"] is None for item in objects):
            return objects
    return None


def _label(key: Mapping[str, Any], fingerprint: str, objects: Sequence[Mapping[str, Any]]) -> str | list[str]:
    """The label, or what is wrong."""
    public = [item for item in objects if item["class"] == "public" and split_label(item["label"])[0] == key["follows"]]
    labels = sorted({str(item["label"]) for item in public if item["fingerprint"] == fingerprint})
    if len(labels) == 1:
        return labels[0]
    if labels:
        return [f"the certificate in {key['certificate']} is that of {' and '.join(labels)}: give the label of one, without generation"]
    there = ", ".join(sorted({str(item["label"]) for item in public})) or "none"
    return [
        f"the certificate in {key['certificate']} is of no generation of {key['follows']} on the token. Public keys of it there: {there}. "
        "Give the certificate of one of them. Nothing of the consumers was changed."
    ]


def _before(one: Mapping[str, Any], key: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    for given in assignments(texts.get(f"{one['folder']}/keys", "")).get("KEYS", "").split():
        name, _equals, uri = given.partition("=")
        match = _OBJECT.search(uri)
        label = unquote(match[1]) if match else ""
        if name == key["name"] and split_label(label)[0] == key["follows"]:
            return label
    return str(key["follows"])
