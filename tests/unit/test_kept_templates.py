# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Templates whose code is kept say what others say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What is said of errors is compared, too: the play goes on after each but the last.
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    name: world
    backslash: 'a\\1b'
    number: 7
    nested: "{{ number + 1 }}"
  tasks:
    - ansible.builtin.debug:
        msg: "{{ item }}"
      loop:
        - Hello {{ name }}!
        - "{{ number }}"
        - "{{ [nested, name, none, number / 2] }}"
        - "{{ 'x\\\\1' | regex_replace('(x)', '\\\\1y') }}"
        - '{{ backslash | regex_replace("a(.)1", "\\\\1") }}'
        - "{% for one in [1, 2] %}{{ one }},{% endfor %}"
        - "{{ {'number': number} | keyfleet.hsm.to_toml }}"
        - "{{ lookup('ansible.builtin.vars', 'nested') }}"
        - "{{ query('ansible.builtin.template', 'other.j2') }}"
        - "{{ lookup('ansible.builtin.template', 'other.j2', variable_start_string='[[', variable_end_string=']]') }}"
    - ansible.builtin.debug:
        msg: "{{ 5 | nosuchfilter if false else name }}"
      ignore_errors: true
    - ansible.builtin.debug:
        var: number | string
    - ansible.builtin.assert:
        that:
          - number == 7
          - name is match('wor')
          - not (name is search('none') or number > 8)
    - ansible.builtin.debug:
        msg: unseen
      when: number > 9
    - ansible.builtin.debug:
        msg: "{{ number | nosuchfilter }}"
      ignore_errors: true
    - ansible.builtin.debug:
        msg: "{{ number + }}"
      ignore_errors: true
    - ansible.builtin.debug:
        msg: "{{ unknown }}"
      ignore_errors: true
    - ansible.builtin.assert:
        that: number == unknown
      ignore_errors: true
    - ansible.builtin.assert:
        that: name == 'word'
"""


def played(folder: Path, callbacks: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(folder / "playbook.yml")]
    environment = {**os.environ, "KEYFLEET_PACKED": str(folder / "kept"), "ANSIBLE_CALLBACKS_ENABLED": callbacks, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    (tmp_path / "other.j2").write_text("{{ name }} and [[ name ]]\n")
    return tmp_path


def test_a_run_says_the_same_with_kept_code_and_without(kept: Path) -> None:
    code, alone = played(kept, "kept_modules")
    assert code == 2 and "Hello world!" in alone and "Assertion failed" in alone
    assert not list(kept.glob("kept/templates-*"))
    assert played(kept, "kept_templates") == (code, alone)
    files = {file: file.stat().st_ino for file in kept.glob("kept/templates-*/*")}
    # Of all that has no error, and of nothing twice.
    assert len(files) > 20 and all(file.suffix == ".pyc" for file in files)
    assert played(kept, "kept_templates") == (code, alone)
    assert {file: file.stat().st_ino for file in kept.glob("kept/templates-*/*")} == files


def test_kept_code_is_what_runs(kept: Path) -> None:
    """The test tests: code of another template in a file."""
    played(kept, "kept_templates")
    files = list(kept.glob("kept/templates-*/*"))
    other = min((file.read_bytes() for file in files), key=len, default=b"")
    for file in files:
        file.write_bytes(other)
    code, output = played(kept, "kept_templates")
    assert code == 2 and "Hello world!" not in output
