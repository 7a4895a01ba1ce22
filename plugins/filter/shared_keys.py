# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.quoting import listed

DOCUMENTATION = r"""
name: shared_keys
short_description: Where tokens of several hosts do not have the same keys
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Compares what M(keyfleet.hsm.hsm_sync) returned of tokens that are behind one load balancer, and that clients take for one. Keys are
    compared by label, C(CKA_ID) and fingerprint.
  - A key that only a registry has, and one that differs from its record, are problems, too.
positional: _input
options:
  _input:
    description:
      - An entry for each token, with the C(host), the C(label) of the token and, as C(answer), what the module returned with
        O(keyfleet.hsm.hsm_sync#module:results=all). Tokens of one label are compared.
    type: list
    elements: dict
    required: true
seealso:
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Read the keys
  keyfleet.hsm.hsm_sync:
    instance: payments
    results: all
  check_mode: true
  register: keys

- name: Compare them
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ tokens | keyfleet.hsm.shared_keys }}"
    tokens:
      - {host: gw1, label: payments, answer: "{{ hostvars.gw1['keys'] }}"}
      - {host: gw2, label: payments, answer: "{{ hostvars.gw2['keys'] }}"}
"""

RETURN = r"""
_value:
  description: One text for each problem, with host, token and keys. Empty where there is none.
  type: list
  elements: str
  sample:
    - "gw2: token 'payments' lacks 'web-tls', which gw1 has"
"""

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


def shared_keys(tokens: Any) -> list[str]:
    """All problems, each as one text."""
    if not isinstance(tokens, (list, tuple)) or not all(
        isinstance(one, Mapping) and {"host", "label", "answer"} <= one.keys() for one in tokens
    ):
        raise AnsibleFilterError("keyfleet.hsm.shared_keys: the input is not a list of mappings: give host, label and answer of each token")
    problems = [problem for token in tokens for problem in _unread(token)]
    first: dict[str, Mapping[str, Any]] = {}
    for token in _read(tokens):
        if token["label"] in first:
            problems += _compared(first[token["label"]], token)
        else:
            first[token["label"]] = token
    return problems


def _read(tokens: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [token for token in tokens if token["answer"].get("document")]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"shared_keys": shared_keys}
