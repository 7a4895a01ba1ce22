#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Run as root on a test host: the PKCS#11 providers of providers.yml, each with a token as its own tools make it, or with none where
# hsm_instance is to make it. All are on Debian 12 but Kryoptic, whose ML-DSA and ML-KEM want Debian 13's OpenSSL.
# Prints a line for each: package, version.

set -euo pipefail

room=/var/lib/providers
so_pin=76543210
pin=246801
libraries=/usr/lib/$(uname -m)-linux-gnu

export DEBIAN_FRONTEND=noninteractive
if grep -q ^VERSION_CODENAME=trixie /etc/os-release; then
  apt-get install -y -qq --no-install-recommends softhsm2 openssl >/dev/null
  mkdir -p "$room"/{copies,kryoptic}
  echo "directories.tokendir = $room/copies" >"$room/copies.conf"
  cat >"$room/kryoptic.conf" <<CONF
[[slots]]
slot = 0
dbtype = "sqlite"
dbargs = "$room/kryoptic/token.sql"
CONF
  exit
fi
apt-get install -y -qq --no-install-recommends softhsm2 opencryptoki opensc p11-kit p11-kit-modules libnss3 libnss3-tools \
  libtpm2-pkcs11-1 libtss2-tcti-tabrmd0 swtpm tpm2-abrmd >/dev/null
rm -rf "$room"
mkdir -p "$room"/{softhsm,remote,copies,nss,nss-direct,tpm,swtpm}

for name in softhsm remote copies; do
  echo "directories.tokendir = $room/$name" >"$room/$name.conf"
done
SOFTHSM2_CONF=$room/remote.conf softhsm2-util --init-token --free --label remote --so-pin "$so_pin" --pin "$pin" >/dev/null

# p11-kit's server, as a gateway would run it.
cat >/etc/systemd/system/providers-remote.service <<UNIT
[Service]
Environment=SOFTHSM2_CONF=$room/remote.conf
ExecStart=/usr/bin/p11-kit server --foreground --name $room/remote.sock --provider /usr/lib/softhsm/libsofthsm2.so pkcs11:token=remote
UNIT

# Two software tokens of opencryptoki. Each says that its serial number is 123.
cat >/etc/opencryptoki/opencryptoki.conf <<CONF
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
for name in first second; do
  install -d -g pkcs11 -m 0770 /var/lib/opencryptoki/$name /var/lib/opencryptoki/$name/TOK_OBJ
done
cat >/etc/systemd/system/providers-slots.service <<UNIT
[Service]
ExecStart=/usr/sbin/pkcsslotd -f
UNIT

# NSS wants a string in C_Initialize: p11-kit's proxy gives it.
echo "$pin" >"$room/pin.txt"
for name in nss nss-direct; do
  certutil -N -d "sql:$room/$name" -f "$room/pin.txt"
done
rm -f /usr/share/p11-kit/modules/*
mkdir -p /etc/pkcs11/modules
cat >/etc/pkcs11/modules/nss.module <<MODULE
module: $libraries/libsoftokn3.so
x-init-reserved: configdir='sql:$room/nss' certPrefix='' keyPrefix='' secmod='secmod.db' flags=
MODULE

# A TPM in software, and the resource manager that tpm2-pkcs11 needs.
cat >/etc/systemd/system/providers-swtpm.service <<UNIT
[Service]
ExecStart=/usr/bin/swtpm socket --tpm2 --tpmstate dir=$room/swtpm --flags not-need-init,startup-clear \
  --server type=tcp,port=2321,bindaddr=127.0.0.1 --ctrl type=tcp,port=2322,bindaddr=127.0.0.1
UNIT
mkdir -p /etc/systemd/system/tpm2-abrmd.service.d
cat >/etc/systemd/system/tpm2-abrmd.service.d/swtpm.conf <<UNIT
[Unit]
ConditionPathExistsGlob=
[Service]
User=root
ExecStart=
ExecStart=/usr/sbin/tpm2-abrmd --allow-root --tcti=swtpm:host=127.0.0.1,port=2321
UNIT
systemctl daemon-reload
systemctl restart providers-slots providers-remote providers-swtpm
# The emulated TPM takes connections a moment after its start, and says nothing of it.
for _try in {1..50}; do
  ! systemctl restart tpm2-abrmd || break
  sleep 0.2
done

# What a person does with a new token of opencryptoki: its SO PIN has to be changed before anything else.
for slot in 0 1; do
  label=$([[ $slot == 0 ]] && echo first || echo second)
  pkcsconf -c $slot -I -S 87654321 <<<"$label" >/dev/null
  pkcsconf -c $slot -P -S 87654321 -n "$so_pin" >/dev/null
  pkcsconf -c $slot -u -S "$so_pin" -n 135790 >/dev/null
  pkcsconf -c $slot -p -U 135790 -n "$pin" >/dev/null
done

# shellcheck disable=SC2016 # dpkg-query's own variables
dpkg-query -W -f '${Package} ${Version}\n' softhsm2 opencryptoki libnss3 p11-kit libtpm2-pkcs11-1
