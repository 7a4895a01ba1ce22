#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs a command, as root, beside an opencryptoki of its own: two_swtok.sh COMMAND...
# It has two software tokens, both with serial number 123: "first" has its PINs, "second" is as it is after the installation.
# The machine's slots, tokens, sockets, locks and its daemon's shared memory are neither seen nor touched. All ends with the command.

set -euo pipefail

if [[ ${1:-} != --inside ]]; then
  exec unshare --mount --ipc --pid --fork --kill-child --mount-proc --propagation slave "$0" --inside "$@"
fi
shift

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 1777 /run/lock
mkdir /run/shm /run/keyfleet
mount --bind /dev/shm /run/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# Files of tests may lie there.
if [[ -d /run/shm/tests ]]; then
  mkdir /dev/shm/tests
  mount --bind /run/shm/tests /dev/shm/tests
fi
mount -t tmpfs -o mode=770 tmpfs /var/lib/opencryptoki
chgrp pkcs11 /var/lib/opencryptoki
install -d -g pkcs11 -m 770 {/run/lock,/var/lib}/opencryptoki/{first,second} /var/lib/opencryptoki/{first,second}/TOK_OBJ
chgrp pkcs11 /run/lock/opencryptoki
cat >/run/opencryptoki.conf <<'CONF'
version opencryptoki-3.1
slot 0
{
stdll = libpkcs11_sw.so
tokname = first
}
slot 1
{
stdll = libpkcs11_sw.so
tokname = second
}
CONF
mount --bind /run/opencryptoki.conf /etc/opencryptoki/opencryptoki.conf

pkcsslotd -f </dev/null >/run/pkcsslotd.log 2>&1 &
# It has no signal of its own that says when it is ready.
for ((round = 0; ; round++)); do
  ! pkcsconf -s >/run/pkcsconf.log 2>&1 || break
  if ((round == 100)); then
    cat /run/*.log >&2
    exit 1
  fi
  sleep 0.1
done
{
  pkcsconf -c 0 -I -S 87654321 <<<first
  pkcsconf -c 0 -P -S 87654321 -n 76543210
  pkcsconf -c 0 -u -S 76543210 -n 135790
  pkcsconf -c 0 -p -U 135790 -n 246801
} >/dev/null
exec "$@"
