# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible makes of a role's own variables, without a play."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.template
import yaml
from ansible.parsing.dataloader import DataLoader

ROLES = Path(__file__).resolve().parents[2] / "roles"


def _trusted(value: Any) -> Any:
    """Texts as Ansible has them of its own files. Before ansible-core 2.19 every text is a template."""
    if isinstance(value, Mapping):
        return {name: _trusted(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_trusted(entry) for entry in value]
    trust = getattr(ansible.template, "trust_as_template", str)
    return trust(value) if isinstance(value, str) else value


@functools.cache
def _own(role: str) -> dict[str, Any]:
    found = [yaml.safe_load((ROLES / role / folder / "main.yml").read_text()) for folder in ("defaults", "vars")]
    merged: dict[str, Any] = _trusted({**found[0], **found[1]})
    return merged


def rendered(role: str, template: str, given: Mapping[str, Any]) -> Any:
    """A template among the variables of a role, with those that are ``given`` before its own."""
    templar = ansible.template.Templar(loader=DataLoader(), variables={**_own(role), **_trusted(given)})
    return templar.template(_trusted(template))
