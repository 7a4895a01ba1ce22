# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""YAML by PyYAML, as Ansible's filter to_nice_yaml has it."""

from __future__ import annotations

from typing import Any


def to_nice_yaml(value: Any) -> str:
    """The text that the filter of this name gives with its defaults, to the byte where both have libyaml."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(value, Dumper=dumper, indent=4, allow_unicode=True, default_flow_style=False))


def read_yaml(raw: bytes) -> Any:
    """What is in the text: mappings, lists, and every scalar as a str. Raises ValueError that says nothing of it."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        # What refers to its own parts may stand for more than fits in memory.
        if b"*" in raw and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, Loader=loader)):
            raise ValueError("has aliases")
        return loader(raw).get_single_data()
    except (yaml.YAMLError, RecursionError):
        raise ValueError("is no YAML, or nested too deep") from None
