#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# In the working folder: two CAs, a client of each, one that is revoked, one of another name, and the list of the revoked.
set -eu
umask 077
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" -days 90; }
client() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$3.key" -out "$3.csr"
  openssl x509 -req -in "$3.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -out "$3.crt" -days 60
  cat "$3.crt" "$3.key" >"$3.pem"
}
authority clients
authority others
client clients app known
client clients gone revoked
client clients stranger unnamed
client others app foreign
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=60\n' >ca.cnf
: >index.txt
echo 01 >number
openssl ca -config ca.cnf -cert clients.pem -keyfile clients.key -revoke revoked.crt
openssl ca -config ca.cnf -cert clients.pem -keyfile clients.key -gencrl -out clients.crl
