#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Prints a line for each unit of the gateway that needs something: a word and the unit. Runs on the target.
#
# Words: stray (on this host and not among the arguments), to-come (not on this host), due (its process has not seen its files).
# Arguments: the folder of the gateway, the file with its certificate, the units.
set -eu
folder=$1 certificate=$2
shift 2
units=/etc/systemd/system

for path in "$units"/keyfleet-front@*.service "$units"/keyfleet-hsm@*.service; do
  unit=$(basename "$path" .service)
  case " $* " in
    *" $unit "*) ;;
    *) [ ! -e "$path" ] || echo "stray $unit" ;;
  esac
done

for unit; do
  [ -e "$units/$unit.service" ] || echo "to-come $unit"
  systemctl is-active --quiet "$unit.service" || continue
  name=${unit#*@}
  set -- "$units/$unit.service"
  case $unit in
    keyfleet-front@*) set -- "$@" "$certificate" "$folder/$name.cfg" "$folder/client_ca.pem" "$folder/client_crl.pem" "$folder/dns_names.lua" ;;
  esac
  changed=$(stat --format=%Y "$@" 2>/dev/null | sort -n | tail -n 1)
  # systemd tells whole seconds.
  started=$(systemctl show --timestamp=unix --property=InactiveExitTimestamp --value "$unit.service")
  # One that was started since may be of the unit that systemd had in memory.
  unread=$(systemctl show --property=NeedDaemonReload --value "$unit.service")
  { [ "$changed" -le "${started#@}" ] && [ "$unread" != yes ]; } || echo "due $unit"
done
