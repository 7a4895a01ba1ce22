# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.report import Report

DOCUMENTATION = r"""
name: fleet_report
short_description: Make the report of a fleet out of what its hosts answered
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Makes one document and one HTML page of the results that the playbook C(keyfleet.hsm.status) has registered on each host. The
    playbook uses it.
  - The page loads nothing from anywhere, can be read without JavaScript, and escapes every name. No PIN is in what the results hold, and
    only known fields of them are read.
positional: _input, found, groups, instances, declared, now, due
options:
  _input:
    description:
      - Names of the hosts. The lists below have one entry for each, in this order, an empty one where a host gave none.
    type: list
    elements: str
    required: true
  found:
    description:
      - What M(keyfleet.hsm.hsm_status_info) returned with O(keyfleet.hsm.hsm_status_info#module:holdings).
    type: list
    elements: dict
    required: true
  groups:
    description:
      - What the loop of M(keyfleet.hsm.hsm_sync) over groups returned.
    type: list
    elements: dict
    required: true
  instances:
    description:
      - What the loop of M(keyfleet.hsm.hsm_sync) over instances returned.
    type: list
    elements: dict
    required: true
  declared:
    description:
      - What the filter P(keyfleet.hsm.site_findings#filter) says of the declaration.
    type: list
    elements: dict
    required: true
  now:
    description:
      - The moment of the report, in UTC, as V(2026-11-29T20:15:00Z).
    type: str
    required: true
  due:
    description:
      - How long before its day a rotation is told, and a certificate that declares no C(renew_before).
    type: str
    default: 30d
seealso:
  - module: keyfleet.hsm.hsm_status_info
  - module: keyfleet.hsm.hsm_sync
"""

EXAMPLES = r"""
- name: Count the hosts that could not be reached, here 1
  ansible.builtin.debug:
    msg: "{{ report.document.summary.findings.unreachable }}"
  vars:
    report: "{{ ['kms1'] | keyfleet.hsm.fleet_report([{}], [{}], [{}], [{}], '2026-11-29T20:15:00Z') }}"
"""

RETURN = r"""
_value:
  description: C(document), plain values for a JSON file, and C(page), the text of the HTML page.
  type: dict
"""

_TEMPLATES = Path(__file__).resolve().parents[2] / "playbooks" / "templates" / "fleet_report"


def fleet_report(hosts: Any, found: Any, groups: Any, instances: Any, declared: Any, now: Any, due: Any = "30d") -> dict[str, Any]:
    """``document`` and ``page``."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.durations import parse_duration
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.answers import DAY, Answers, text
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.report import Report

    lists = {"the input": hosts, "found": found, "groups": groups, "instances": instances, "declared": declared}
    problems = [f"{name}: is not a list" for name, value in lists.items() if not isinstance(value, (list, tuple))]
    if not problems and len({len(value) for value in lists.values()}) > 1:
        problems.append("the lists are not equally long: give an entry for each host")
    moment, soon = None, 0
    try:
        moment = datetime.strptime(str(now), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        problems.append("now: is not a moment such as 2026-11-29T20:15:00Z")
    try:
        soon = parse_duration(str(due))
    except ValueError as error:
        problems.append(f"due: {error}")
    if problems or moment is None:
        raise AnsibleFilterError(f"keyfleet.hsm.fleet_report: {'; '.join(problems)}")
    answers = (
        Answers(text(host), _mapping(one), _results(two), _results(three), _mapping(four), moment, soon / DAY)
        for host, one, two, three, four in zip(hosts, found, groups, instances, declared, strict=True)
    )
    report = Report(sorted((answer.report() for answer in answers), key=lambda one: one.name), moment)
    return {"document": report.document(), "page": page_of(report)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _results(value: Any) -> Sequence[Mapping[str, Any]]:
    found = _mapping(value).get("results")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, (list, tuple)) else []


def page_of(report: Report) -> str:
    """The page. Every value is escaped by the environment; style and script are let through by their hashes."""
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.findings import KINDS
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.report import STATES, WORDS

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = ((_TEMPLATES / name).read_text() for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        view=report.view(),
        kinds=KINDS,
        states=STATES,
        words=WORDS,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_report": fleet_report}
