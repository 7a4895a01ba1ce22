#!/bin/bash -eu
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The name by which nginx starts another nginx that takes its place. Libraries of HSMs leave their connections open for whoever is started:
# none goes any further, since a gateway, or an HSM, counts them.

for each in /proc/self/fd/*; do
  number=${each##*/}
  # The sockets that nginx hands on are named in its variable. This script is read by a file of its own.
  if ((number > 2)) && [[ ";${NGINX-};" != *[\;:]"$number"[\;:]* ]] && ! [[ $each -ef $0 ]]; then
    exec {number}>&-
  fi
done
exec -a "$0" /usr/sbin/nginx "$@"
