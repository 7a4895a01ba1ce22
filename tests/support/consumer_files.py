# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role client plans for its consumers, and the files that it renders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from ansible_collections.keyfleet.hsm.plugins.filter.config_word import config_word
from ansible_collections.keyfleet.hsm.plugins.filter.consumer_plan import consumer_plan

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/client/templates/consumers"


def planned(*declared: dict[str, Any], way: str = "engine") -> list[dict[str, Any]]:
    plan = consumer_plan(list(declared), hsms=["payments"], client_library="/usr/lib/p11-kit-client.so", way=way)
    assert plan["problems"] == []
    found: list[dict[str, Any]] = plan["consumers"]
    return found


def rendered(name: str, consumer: dict[str, Any], **more: Any) -> str:
    """As ansible.builtin.template renders it."""
    environment = jinja2.Environment(  # noqa: S701 (none of it is HTML)
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["keyfleet.hsm.config_word"] = config_word
    values = {"client_lib": "/usr/lib/x", "client_consumer_script": "/usr/local/lib/keyfleet/consumer", "client_agent_user": "agent"}
    return environment.get_template(f"{name}.j2").render(client_consumer=consumer, **values, **more)
