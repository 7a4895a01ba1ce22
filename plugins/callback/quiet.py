# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: quiet
type: stdout
short_description: Ansible's default output, with the warnings of tasks that are not shown
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Ansible's default output leaves out the warnings of a task together with the task, where C(display_ok_hosts) is off. A warning may
    say that a certificate ends or that a PIN has few tries left. This output shows them in any case.
  - All else is as in the default output, with the same options.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - C(stdout_callback = keyfleet.hsm.quiet) in C(ansible.cfg)
"""

from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default


def warn(callback: Any, result: Any) -> None:
    """What the default output would leave out. What it shows has its warnings there."""
    said = result.result if hasattr(result, "result") else result._result
    if not callback.get_option("display_ok_hosts") and not said.get("changed"):
        callback._handle_warnings(said)


def on_ok(callback: Any, result: Any) -> None:
    warn(callback, result)
    Default.v2_runner_on_ok(callback, result)


def on_item_ok(callback: Any, result: Any) -> None:
    warn(callback, result)
    Default.v2_runner_item_on_ok(callback, result)


# Ansible's classes have no types, so that none can be derived from them by a class statement.
CallbackModule = type(
    "CallbackModule",
    (Default,),
    {
        "CALLBACK_VERSION": 2.0,
        "CALLBACK_TYPE": "stdout",
        "CALLBACK_NAME": "keyfleet.hsm.quiet",
        "v2_runner_on_ok": on_ok,
        "v2_runner_item_on_ok": on_item_ok,
    },
)
