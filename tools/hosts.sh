#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Test hosts: hosts.sh up [--hosts N] [--debian RELEASE,...] [--offline N] | images [--debian RELEASE,...] | down [--images] | clean
# KEYFLEET_HOSTS is the folder that holds what belongs to them. Hosts of another folder are other hosts.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# All hosts that were made from this checkout, those of the tests as well. Needs no root where there are none. Images are the machine's.
if [[ ${1:-} == clean ]]; then
  for home in "$BUILD"/hosts "$BUILD"/fleet "$BUILD"/molecule "$BUILD"/providers "$BUILD"/gateway; do
    [[ ! -d $home ]] || KEYFLEET_HOSTS=$home "${BASH_SOURCE[0]}" down
  done
  exit
fi

((EUID == 0)) || die "Test hosts are containers with systemd as PID 1, made from scratch. That takes root: run this as root."
find_python >/dev/null || need_packages python3-venv
python=$(find_python) || die "No Python 3.11, 3.12 or 3.13 found. Set PYTHON to one."
if [[ ${1:-} == up || ${1:-} == images ]]; then
  need_packages podman crun netavark aardvark-dns iptables mmdebstrap fuse-overlayfs openssh-client
fi

home=$(realpath -m "${KEYFLEET_HOSTS:-$BUILD/hosts}")
# To make an image takes a minute of a processor, and every checkout on this machine makes the same.
images=${KEYFLEET_IMAGES:-${XDG_CACHE_HOME:-~/.cache}/keyfleet.hsm/images}
exec "$python" "$ROOT/tests/fleet/hosts.py" --home "$home" --cache "$images" "$@"
