#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# In the working folder: CAs of the clients, of the gateways and another one; clients by common name and by DNS name, one that is revoked,
# two of other names; the list of the revoked; a certificate of the gateways, and one that another CA has issued for the same names.
set -eu
umask 077
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" -days 90; }
# CA, subject, file, alternative names
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$3.key" -out "$3.csr"
  echo "${4:+subjectAltName=}${4:-keyUsage=digitalSignature}" >"$3.ext"
  openssl x509 -req -in "$3.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -extfile "$3.ext" -out "$3.crt" -days 60
  cat "$3.crt" "$3.key" >"$3.pem"
}
authority clients
authority gateways
authority others
certificate clients /CN=app known
certificate clients / named DNS:other,DNS:App
certificate clients /CN=gone revoked DNS:app
certificate clients /CN=stranger unnamed URI:app,email:app@app,DNS:app.other,DNS:*.app,DNS:myapp
certificate others /CN=app foreign DNS:app
certificate gateways /CN=gateway gateway DNS:host1,DNS:host2
certificate others /CN=gateway rogue DNS:host1,DNS:host2
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=60\n' >ca.cnf
: >index.txt
echo 01 >number
openssl ca -config ca.cnf -cert clients.pem -keyfile clients.key -revoke revoked.crt
openssl ca -config ca.cnf -cert clients.pem -keyfile clients.key -gencrl -out clients.crl
