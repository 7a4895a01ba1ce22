# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=bash
# Sourced by the stages that run Ansible on test hosts: wheels for the hosts, and how Ansible reaches them.

"$ROOT/tools/wheelhouse.sh"
export KEYFLEET_WHEELHOUSE=$BUILD/wheelhouse
export ANSIBLE_CONFIG=$ROOT/tests/fleet/ansible.cfg
# One SSH call for a module in place of three. No compression: the hosts are on this machine.
export ANSIBLE_PIPELINING=1
export ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s"
start_as_tests
export ANSIBLE_CALLBACK_PLUGINS=$ROOT/tests/fleet/callback
export ANSIBLE_CALLBACKS_ENABLED=kept_modules,kept_templates
