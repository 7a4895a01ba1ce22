#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs a command that has a /dev/shm of its own, and a /run/keyfleet where it is root: own_shm.sh COMMAND...
# The modules' locks lie there and hold for the whole machine, so that tests that go on side by side would wait for each other.
# In /dev/shm/tests is room for files of tests: a token and a registry are synced with the disk at every step, and a disk takes its time.

set -euo pipefail

own='mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mkdir -m 700 /dev/shm/tests && exec "$@"'
# What is unmounted on the machine is to go here as well: test hosts come and go meanwhile.
new=(unshare --mount --propagation slave)

if ((EUID == 0)); then
  mkdir -p /run/keyfleet
  own="mount -t tmpfs -o mode=755 tmpfs /run/keyfleet && $own"
  exec "${new[@]}" bash -c "$own" "$0" "$@"
fi
# The right to mount, and none of it left to the command.
exec "${new[@]}" --user --map-current-user --keep-caps bash -c "$own" "$0" setpriv --inh-caps=-all --ambient-caps=-all "$@"
