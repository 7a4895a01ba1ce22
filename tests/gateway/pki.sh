#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# In the working folder: what extensions/molecule/gateway/files/pki.sh makes, a CA of the gateways, a certificate of each, and two keys that
# all tokens share. Arguments: the name that all gateways have, and the gateways' own.
set -eu
umask 077
sh "$(dirname "$0")/../../extensions/molecule/gateway/files/pki.sh"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=gateways -keyout gateways.key -out gateways.pem -days 90
shared=$1
shift
for name; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
  echo "subjectAltName=DNS:$name,DNS:$shared" >"$name.ext"
  openssl x509 -req -in "$name.csr" -CA gateways.pem -CAkey gateways.key -CAcreateserial -extfile "$name.ext" -out "$name.crt" -days 60
  openssl pkcs12 -export -inkey "$name.key" -in "$name.crt" -certfile gateways.pem -passout pass: -out "$name.p12"
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key
for key in rsa ec; do openssl pkey -in $key.key -pubout -out $key.pub; done
