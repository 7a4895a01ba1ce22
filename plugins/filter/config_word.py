# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: config_word
short_description: Quote a value for a line of a configuration file
version_added: 0.1.0
author:
  - keyfleet.hsm contributors (@keyfleet)
description:
  - Writes a value as one word of a configuration file, quoted as the program that reads it wants it.
  - A value that could not be one word is refused, most of all one with a line break or another control character, which
    would begin a line of its own. The error does not show the value.
positional: _input, format
options:
  _input:
    description:
      - The value, a text, a number or a boolean.
    type: raw
    required: true
  format:
    description:
      - V(systemd) is a quoted word of a unit or a drop-in. V(systemd_line) are words of it that are not quoted.
      - V(environment_file) is a value in a file for C(EnvironmentFile=). V(softhsm2) is a value in C(softhsm2.conf).
        V(haproxy) is a word of C(haproxy.cfg).
      - V(shell) is a word of a shell script. V(double_quoted) is a text between double quotes for nginx and for HCL. V(plain) is a word
        that no program would want quoted, such as a path, and everything else is refused.
    type: str
    required: true
    choices:
      - systemd
      - systemd_line
      - environment_file
      - softhsm2
      - haproxy
      - shell
      - plain
      - double_quoted
seealso:
  - plugin: keyfleet.hsm.variable_problems
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a line of a drop-in, here Environment="GREETING=100%% of \"us\""
  ansible.builtin.debug:
    msg: "Environment={{ 'GREETING=100% of \"us\"' | keyfleet.hsm.config_word('systemd') }}"
"""

RETURN = r"""
_value:
  description: The word.
  type: str
  sample: '"GREETING=100%% of \"us\""'
"""


def config_word(value: Any, format: Any) -> str:
    """The value as one word of a file."""
    # Here and not above: to find one filter Ansible loads them all, in the process of each task.
    from ansible_collections.keyfleet.hsm.plugins.module_utils._model import config_words

    if format not in config_words.FORMATS:
        raise AnsibleFilterError(f"keyfleet.hsm.config_word: format: {format!r} is unknown: use one of {', '.join(config_words.FORMATS)}")
    try:
        return config_words.config_word(value, format)
    except ValueError as error:
        raise AnsibleFilterError(f"keyfleet.hsm.config_word: the value {error}: give another one") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"config_word": config_word}
