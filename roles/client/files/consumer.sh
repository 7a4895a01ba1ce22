#!/bin/sh
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# For the units of a service whose private key is in an HSM. Runs as root. Arguments: what to do, and the name of the consumer.
#
#   due     prints restart or reload where the service has not opened its key since its files, or the file with its PIN, changed
#   guard   before the service opens its key: looks at the token, then makes the copy of the PIN and proves it, once. A third argument,
#           reload, says that the process stays as it is
#   reopen  puts another nginx in the place of the one that runs, which opens the key anew
#   add     gives the agent of sshd the keys of its token
#   offer   has sshd read its part of the configuration, and prints reload, where its process has not read it with the agent at hand
#   watch   as long as it runs: has the service open its key anew when it cannot use it any more, as after a restart of the gateway
#   settle  once the service is seen to use the keys that it is given, notes that it uses no other. Prints something where it is not seen
#   forget  takes the copy of the PIN away, and has a start that failed after the guard made once more
#
# A PIN that was refused is not tried again, for no service that has it from the same file: the token's flags tell, and the files halt do
# where a token does not flag it.
# The file uses has the URIs of all keys that the service may use: before it opens another one that is noted, and what it used before goes
# from there when it was seen to use the other. Who deactivates a key asks there first.
set -eu
action=$1 name=$2 proven='' runs=''
folder=/etc/keyfleet-consumers/$name
run=/run/keyfleet-consumers/$name
halt=/var/lib/keyfleet-consumers/$name.halt
# The file with the PIN, as it was at the last good login.
proved=/var/lib/keyfleet-consumers/$name.proved
# How often it failed since the service used its key.
failures=/var/lib/keyfleet-consumers/$name.failures
uses=/var/lib/keyfleet-consumers/$name.uses
# The token was not there when the service was to start.
waiting=$run/waiting
# The guard let it start, and it was not seen to use its key since.
opening=$run/opening
part=/etc/ssh/sshd_config.d/10-keyfleet-consumer.conf
LIBRARY='' TOKEN='' KIND='' PIN_FILE='' KEYS='' UNIT='' SERVICE='' HELD_BY='' CHECK='' CHECK_NAME='' INTERVAL=5 WAY='' SOCKET='' SEAL_PIN=''
# shellcheck source=/dev/null
. "$folder/settings"
# shellcheck source=/dev/null
. "$folder/keys"

say() {
  printf '%s: %s\n' "$name" "$*" >&2
}

die() {
  say "$@"
  exit 1
}

# The slots, labels and flags of the tokens, a line each, without a login.
tokens() {
  seen=$(timeout -k 5 20 pkcs11-tool --module "$LIBRARY" --list-token-slots 2>/dev/null) || return 1
  printf '%s\n' "$seen" | sed -n -e 's/^Slot [0-9]* (\(0x[0-9a-f]*\)).*/slot \1/p' -e 's/^ *token \(label\|flags\) *: \(.*\)$/\1 \2/p'
}

# flags: those of the token. Fails where it is not there.
flags() {
  printf '%s\n' "$listed" | awk -v want="$TOKEN" '
    /^label / { here = substr($0, 7) == want }
    /^flags / && here { print substr($0, 7); found = 1 }
    END { exit !found }'
}

# see: one look at the tokens, for flags and slot, since two may differ while a gateway is starting. Sets found to the flags of the token,
# and fails where it is not there.
see() {
  listed=$(tokens) && found=$(flags)
}

# The PIN, by where it is tried and where it comes from.
whose() {
  printf '%s\n' "$LIBRARY" "${P11_KIT_SERVER_ADDRESS-}" "$TOKEN" "$PIN_FILE"
}

# The same, and when that was written.
whose_now() {
  whose
  stat -L --format=%y "$PIN_FILE"
}

# good_before: whether what is in now was good for a service of this host.
good_before() {
  for each in "${proved%/*}"/*.proved; do
    ! printf '%s\n' "$now" | cmp -s - "$each" || return 0
  done
  return 1
}

# halted: whether it failed since its file was written, for this service, or was refused for another one.
halted() {
  for each in "${halt%/*}"/*.halt; do
    [ -e "$each" ] && [ ! "$PIN_FILE" -nt "$each" ] || continue
    [ "$each" != "$halt" ] && ! whose | cmp -s - "$each" || return 0
  done
  return 1
}

# flagged: whether the token reports a wrong PIN since the last good login.
flagged() {
  case $found in
    *'user PIN locked'* | *'final user PIN try'* | *'user PIN count low'*) return 0 ;;
  esac
  return 1
}

# may_log_in: whether a PIN may be tried. Says why not.
may_log_in() {
  case $found in
    *'user PIN locked'*)
      say "the user PIN of token '$TOKEN' is locked: nothing was tried"
      return 1 ;;
  esac
  if flagged; then
    say "a wrong PIN was tried on token '$TOKEN' since the last good login: nothing was tried. Find out which PIN is right"
  elif halted; then
    say "the key could not be opened with the PIN in $PIN_FILE, and it is not tried again: run the role, or write that file anew"
  else
    return 0
  fi
  return 1
}

# slot: the one that has the token. pkcs11-tool itself would take the first token whose label begins so.
slot() {
  printf '%s\n' "$listed" | awk -v want="$TOKEN" '
    /^slot / { slot = substr($0, 6) }
    /^label / && substr($0, 7) == want { print slot; found++ }
    END { exit found != 1 }'
}

# refused: whether pkcs11-tool, or OpenSSL, says that the token did not take the PIN.
refused() {
  grep -qiE 'C_Login failed: rv = CKR_PIN_|PIN (is )?incorrect' "$run/said" 2>/dev/null
}

# absent: the token was not there for a process that was to start. What runs is looked at by its handshakes.
absent() {
  [ -n "$runs" ] || : >"$waiting"
}

# failed WHAT: a failure with the token at hand may be due to the PIN. Without it, nothing was tried in vain.
failed() {
  [ ! -s "$run/said" ] || tail -n 5 "$run/said" >&2
  mkdir -p "${halt%/*}"
  [ -z "$proven" ] || failed_later "$1"
  # What runs goes on with the PIN that it has.
  if [ -e "$run/pin.before" ]; then
    mv -f "$run/pin.before" "$run/pin"
  fi
  if refused; then
    rm -f "$failures"
    whose >"$halt"
    die "$1"
  fi
  see || {
    absent
    die "$1; the token '$TOKEN' cannot be seen any more, so the PIN is not to blame"
  }
  # Another error than the PIN's, as of a gateway that is just starting, or of logins at the same moment. If the PIN was never good, a token
  # that hides behind it that the PIN is wrong, and flags nothing, is soon left alone, by all services.
  most=3
  ! good_before || most=20
  ! tried_again "$most" || die "$1; the token does not say that the PIN is wrong"
  if [ "$most" = 3 ]; then
    whose >"$halt"
  else
    : >"$halt"
  fi
  die "$1. It is not tried again: run the role, or write $PIN_FILE anew"
}

# tried_again MOST: whether a failure may be followed by another try: no sign of a wrong PIN in said and in the token's flags, and fewer
# than that many failures since the service used its key, or the file with the PIN was written.
tried_again() {
  rm -f "$opening"
  count=1
  [ ! -e "$failures" ] || [ "$PIN_FILE" -nt "$failures" ] || count=$(($(cat "$failures") + 1))
  if refused || flagged || [ "$count" -ge "$1" ]; then
    # Who is asked to run the role, or to write the file anew, gets all of them again.
    rm -f "$failures"
    return 1
  fi
  echo "$count" >"$failures"
  absent
}

# failed_later WHAT: after a login that was good a moment ago. A gateway that is just starting fails so, and it is tried again, unless
# the token's flags report a wrong PIN: it was given in another form. For a token that has no such flags there is a limit. Other services go on.
failed_later() {
  rm -f "$run/pin.before"
  see || found=''
  tried_again 20 || {
    : >"$halt"
    die "$1. Its PIN was good for pkcs11-tool a moment ago, and is not tried again: run the role, or write $PIN_FILE anew"
  }
  die "$1; its PIN was good a moment ago"
}

# Without the newline at its end, which OpenSSL's engine takes for a part of the PIN.
read_pin() {
  newline='
'
  pin=$(cat "$PIN_FILE" && echo .) || die "$PIN_FILE cannot be read"
  pin=${pin%.}
  pin=${pin%"$newline"}
  [ -n "$pin" ] || die "$PIN_FILE is empty: nothing was tried"
  # pkcs11-provider 1.0 reads no more, and tries that.
  [ "$WAY" != provider ] || [ "${#pin}" -lt 32 ] ||
    die "the PIN in $PIN_FILE has more than 31 characters, of which OpenSSL's provider would try the first: nothing was tried. Change it to a shorter one"
}

# One login, before the service or OpenSSL makes its own: each would try a wrong PIN at every start, and OpenSSL's provider does not say that
# it was wrong. The objects that are fewest are listed. The PIN is in the environment of root's own process.
prove_pin() {
  # What an earlier guard left there is older than what the service has.
  rm -f "$run/pin.before"
  at=$(slot) || {
    absent
    die "there is no token '$TOKEN' in $LIBRARY any more, or more than one: no PIN was tried"
  }
  status=0
  PIN_TRIED=$pin timeout -k 5 60 pkcs11-tool --module "$LIBRARY" --slot "$at" --login --pin env:PIN_TRIED \
    --list-objects --type data </dev/null >/dev/null 2>"$run/said" || status=$?
  if [ "$status" = 0 ] || grep -q 'C_FindObjects' "$run/said"; then
    proven=yes # by a good login before
    printf '%s\n' "$now" >"$proved.new"
    mv -f "$proved.new" "$proved"
    return
  elif [ "$status" = 1 ] && ! grep -q 'C_Login failed' "$run/said"; then
    tail -n 5 "$run/said" >&2
    absent
    die "token '$TOKEN' cannot be opened, and no PIN was tried"
  fi
  failed "token '$TOKEN' cannot be logged in to with the PIN in $PIN_FILE"
}

# printf is the shell's own: no process gets it.
copy_pin() {
  umask 077
  if [ -z "$SEAL_PIN" ]; then
    printf %s "$pin" >"$run/pin.new"
    [ ! -e "$run/pin" ] || cp -p "$run/pin" "$run/pin.before"
    mv -f "$run/pin.new" "$run/pin"
  else
    case $pin in
      *[!A-Za-z0-9_./:@+,=-]*) die "the PIN has a character that an environment file of systemd would have to quote" ;;
    esac
    printf '%s=%s\n' "$SEAL_PIN" "$pin" >"$run/environment.new"
    mv -f "$run/environment.new" "$run/environment"
  fi
  pin=''
  umask 022
}

# public FILE URI: the public half of a private key, by the way in which the service opens it.
public() {
  if [ "$WAY" = provider ]; then
    timeout -k 5 60 openssl pkey -in "$folder/$1.pem.key" -pubout </dev/null
  else
    timeout -k 5 60 openssl pkey -engine pkcs11 -inform engine -in "$2?pin-source=file:$run/pin" -pubout </dev/null
  fi
}

prove() {
  set -f
  for key in $KEYS; do
    file=${key%%=*}
    opened=$(public "$file" "${key#*=}" 2>"$run/said") || failed "key ${key#*=} cannot be opened"
    [ ! -e "$folder/$file.pem" ] || [ "$opened" = "$(openssl x509 -in "$folder/$file.pem" -noout -pubkey)" ] ||
      die "the certificate in $folder/$file.pem is not that of the key ${key#*=}"
  done
}

# The keys that the service is given, a line each.
given() {
  set -f
  for key in $KEYS; do
    printf '%s\n' "${key#*=}"
  done | sort -u
}

# note LINES: the keys that the service may use.
note() {
  printf '%s\n' "$1" | sort -u >"$uses.new"
  mv -f "$uses.new" "$uses"
}

# greeted: what a client sees that connects, with the host's OpenSSL, as any client.
greeted() {
  env -u OPENSSL_CONF timeout -k 5 20 openssl s_client -connect "$CHECK" ${CHECK_NAME:+-servername "$CHECK_NAME"} </dev/null 2>/dev/null
}

# shown: whether the service shows a certificate of its keys. Its old processes may still be the ones that answer.
shown() {
  served=$(greeted | env -u OPENSSL_CONF openssl x509 -noout -pubkey 2>/dev/null) || return 1
  certified=''
  for key in $KEYS; do
    file=$folder/${key%%=*}.pem
    [ -e "$file" ] || continue
    certified=yes
    [ "$served" != "$(env -u OPENSSL_CONF openssl x509 -in "$file" -noout -pubkey)" ] || return 0
  done
  [ -z "$certified" ]
}

settled() {
  systemctl is-active --quiet "$HELD_BY" || return 1
  if [ "$KIND" = sshd ]; then
    works && offered
  else
    # A run that was cut off may have written another key than this process was started with.
    read_since && { [ -z "$CHECK" ] || shown; }
  fi
}

settle() {
  tries=0
  while ! given | cmp -s - "$uses"; do
    if settled; then
      note "$(given)"
    else
      tries=$((tries + 1))
      [ "$tries" -lt "${1:-50}" ] || {
        [ -n "$1" ] || echo "is not seen to use"
        break
      }
      sleep 0.2
    fi
  done
}

# What a process has got from its start on, and what it reads again at a reload.
made_of() {
  cat "$folder/settings" "$folder/openssl.cnf" "$UNIT" 2>/dev/null | sha256sum
}

reads() {
  find "$folder" -type f -exec sha256sum {} + | sort
  stat -L --format=%y "$PIN_FILE"
}

# read_since: whether the guard saw these files when the service opened its key.
read_since() {
  [ "$(reads | sha256sum)" = "$(cat "$run/reads" 2>/dev/null)" ]
}

due() {
  if ! [ "$(made_of)" = "$(cat "$run/made_of" 2>/dev/null)" ]; then
    echo restart
  elif [ "$KIND" = sshd ]; then
    works || echo restart
  elif ! read_since; then
    echo reload
  elif [ -e "$run/worked" ] && systemctl is-active --quiet "$HELD_BY" && ! works; then
    # A gateway was restarted, and nobody watched.
    echo reload
  fi
}

guard() {
  [ "$1" != reload ] || runs=yes
  install -d -m 0755 "${run%/*}" "$run"
  see || {
    absent
    die "token '$TOKEN' is not to be seen in $LIBRARY: is the gateway, or the HSM, up?"
  }
  # ssh-add hands the PIN to every token of the library.
  [ "$KIND" != sshd ] || [ "$(printf '%s\n' "$listed" | grep -c '^label ')" = 1 ] || die "$LIBRARY shows several tokens, and ssh-add would try the PIN on each"
  may_log_in || exit 1
  known=$([ ! -e "$uses" ] || cat "$uses") || die "$uses cannot be read"
  note "$(given)${known:+
$known}"
  now=$(whose_now) || die "$PIN_FILE cannot be read"
  read_pin
  prove_pin
  copy_pin
  [ -z "$WAY" ] || prove
  rm -f "$halt" "$waiting" "$run/pin.before"
  if [ -n "$runs" ]; then
    # Until another nginx is there, the files are not read: a run that comes after one that was cut off reloads again.
    rm -f "$run/reads"
    reads | sha256sum >"$run/reads.given"
  else
    reads | sha256sum >"$run/reads"
    made_of >"$run/made_of"
    ! watched || : >"$opening"
  fi
  # Nobody sees whether it uses its key.
  watched || rm -f "$failures"
}

# watched: whether it has a watch.
watched() {
  [ "$KIND" = sshd ] || [ -n "$CHECK" ]
}

# first PROCESS: whether it is a first process of nginx.
first() {
  [ "$(cat "/proc/$1/comm" 2>/dev/null)" = nginx ] && ! grep -qE '^nginx: (worker|cache)' "/proc/$1/cmdline"
}

# process FILE: the first process of nginx whose number is there.
process() {
  number=$(cat "$1" 2>/dev/null) && first "$number" && echo "$number"
}

# gone PROCESS: whether it ends within ten seconds. A zombie has an empty command line.
gone() {
  tries=0
  while [ -n "$(tr -d '\0' 2>/dev/null <"/proc/$1/cmdline")" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || return 1
    sleep 0.1
  done
}

# reopen: nginx's own change of its program (nginx.org/en/docs/control.html). The new process gets the sockets, so that no connection is
# refused or cut, and opens the key as one that was just started. At a HUP the first process opens it, by a connection to the HSM that it
# may have lost, and OpenSSL's engine finds no key there that was made later: nginx says that in its log alone, and systemd nothing.
# It has to have been started by the role's name, which closes the connections of the one before.
reopen() {
  file=$(systemctl show --property=PIDFile --value "$HELD_BY")
  if [ -z "$file" ]; then
    # A unit whose process may not be followed by another.
    old=$(systemctl show --property=MainPID --value "$HELD_BY")
    [ "${old:-0}" -gt 0 ] || die "$HELD_BY has no process: it is not reloaded"
    test_nginx
    kill -HUP "$old"
  else
    # One that hangs, of a change that was cut off.
    if ! process "$file" >/dev/null && before=$(process "$file.oldbin"); then
      end_followers "$before"
    fi
    test_nginx
    old=$(process "$file") || die "$file names no process of nginx: it is not reloaded"
    if ! grep -qF "$folder/nginx" "/proc/$old/cmdline"; then
      say "nginx was not started by $folder/nginx: it reads its files anew, and may not find a key younger than itself"
      kill -HUP "$old"
    elif before=$(process "$file.oldbin") && [ "$before" != "$old" ] && kill -QUIT "$before" && ! gone "$before"; then
      # Of a change that was cut off, or its clients are still there.
      say "the nginx before ($before) still serves clients: this one reads its files anew, and may not find a key younger than itself." \
        "Reload it when they are gone"
      kill -HUP "$old"
      # Still to be done.
      return
    else
      process "$file.oldbin" >/dev/null || rm -f "$file.oldbin"
      follow
    fi
  fi
  mv -f "$run/reads.given" "$run/reads"
}

test_nginx() {
  timeout -k 5 30 /usr/sbin/nginx -t -q || die "nginx refuses its configuration or its keys, and goes on with what it has"
}

# follow: another nginx after the one that $file names.
follow() {
  kill -USR2 "$old"
  deadline=$(($(date +%s) + 45)) tries=0
  # While the new one opens its keys, only the other file is there.
  until new=$(process "$file") && [ "$new" != "$old" ]; do
    tries=$((tries + 1))
    if [ "$(date +%s)" -ge "$deadline" ] || { [ "$tries" -ge 50 ] && [ ! -e "$file.oldbin" ]; }; then
      end_followers "$old"
      die "no other nginx was started, and this one goes on with what it has: its log says why"
    fi
    sleep 0.1
  done
  kill -QUIT "$old"
  # systemd takes the new one for the service's process when the old one ends, which may have to wait for its clients.
  gone "$old" || say "the nginx before ($old) still serves clients, and ends with the last of them"
}

# end_followers PROCESS: those that it started in its place. It takes no signal for another before they are gone, and then has its file again.
end_followers() {
  started=$(cat "/proc/$1/task/$1/children" 2>/dev/null) || started=''
  for each in $started; do
    if first "$each" && grep -qF "$folder/nginx" "/proc/$each/cmdline" 2>/dev/null; then
      say "nginx $each has not opened its keys in time: it is ended"
      kill -TERM "$each" 2>/dev/null && gone "$each" || kill -KILL "$each" 2>/dev/null || true
    fi
  done
  tries=0
  while [ -e "$file.oldbin" ] && [ "$tries" -lt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
}

add() {
  proven=yes # by the guard, before a process that starts
  tries=0
  until [ -S "$SOCKET" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || die "the agent has not made $SOCKET"
    sleep 0.1
  done
  # ssh-add asks for the PIN by a program, and gets it from the copy.
  SSH_AUTH_SOCK=$SOCKET SSH_ASKPASS=$folder/askpass SSH_ASKPASS_REQUIRE=force timeout -k 5 60 ssh-add -q -s "$LIBRARY" </dev/null || {
    rm -f "$run/pin" "$run/said"
    failed "the agent has not got the keys of token '$TOKEN'"
  }
  rm -f "$run/pin"
}

# works: whether the service uses its key.
works() {
  if [ "$KIND" = sshd ]; then
    SSH_AUTH_SOCK=$SOCKET timeout -k 5 20 ssh-add -q -T "$folder/host.pub" 2>/dev/null
  else
    greeted >/dev/null
  fi
}

# fits: whether sshd's part is for this host key. A run may have been cut off between the two.
fits() {
  grep -qxF "# $(cut -d ' ' -f 2 "$folder/host.pub")" "$part" 2>/dev/null
}

# told TEXT: this process of sshd, and the part that it has read.
told() {
  systemctl show --property=MainPID "$SERVICE"
  printf '%s\n' "$1"
}

# offered: whether sshd has read its part with the agent at hand. From OpenSSH 9.8 on it offers no key whose agent it did not find then.
offered() {
  fits && told "$(cat "$part")" | cmp -s - "$run/offered"
}

offer() {
  fits || die "$part is for another host key than $folder/host.pub: run the role"
  ! offered || return 0
  text=$(cat "$part")
  systemctl try-reload-or-restart "$SERVICE" || return 1
  # A restart makes another process.
  told "$text" >"$run/offered"
  echo reload
}

# A reload returns before the new processes are there, and a process may have to log in again for its first handshake.
recovered() {
  tries=0
  until works; do
    tries=$((tries + 1))
    [ "$tries" -lt 20 ] || return 1
    sleep 0.5
  done
}

# reloaded: whether a reload helps. It fails while the gateway is starting.
reloaded() {
  for wait in 1 4 ''; do
    if systemctl reload "$HELD_BY"; then
      recovered
      return
    fi
    # A failure that is counted is one of the next look's.
    ! counted || return 1
    [ -z "$wait" ] || sleep "$wait"
  done
  return 1
}

# counted: whether a failure was, in this look.
counted() {
  [ "$(cat "$failures" 2>/dev/null)" != "$count_before" ]
}

# One look of the watch, which sets the pause until the next.
look() {
  if systemctl is-active --quiet "$HELD_BY"; then
    if works; then
      : >"$run/worked"
      rm -f "$run/restarted" "$opening" "$failures"
      if [ "$KIND" = sshd ] && fits && ! offered; then
        say "$SERVICE has not read its configuration since it was started, or changed: it reads it"
        offer >/dev/null || {
          pause=$((pause < 300 ? pause * 2 : 600))
          return
        }
      fi
      # As they are given now: this process knows those of its start.
      "$0" settle "$name" 1
      pause=$INTERVAL
      return
    fi
  elif [ ! -e "$waiting" ]; then
    pause=$INTERVAL
    return
  fi
  see || return 0
  may_log_in || {
    pause=60
    return
  }
  say "$HELD_BY cannot use its key, and token '$TOKEN' is there: it opens the key anew"
  count_before=$(cat "$failures" 2>/dev/null) || count_before=''
  if [ "$KIND" = nginx ] && systemctl is-active --quiet "$HELD_BY"; then
    # It goes on with what it has until the new processes are there. Where no other nginx could take its place, its first process may have
    # lost its own connection, too. One restart: a second would not help what the first did not. All that it serves goes with it, so only
    # where it would come back.
    if ! reloaded && ! counted && [ -e "$run/worked" ] && [ ! -e "$run/restarted" ]; then
      # As its start does.
      if "$0" guard "$name" reload && (test_nginx); then
        : >"$run/restarted"
        say "a reload did not help: it is restarted"
        systemctl restart "$HELD_BY" || true
      else
        say "a reload did not help, and it is not restarted, since it would not come back"
      fi
    fi
  else
    systemctl reset-failed "$HELD_BY" 2>/dev/null || true
    systemctl restart "$HELD_BY" || true
  fi
  # Where it does not help, something else is wrong, which more logins do not mend.
  recovered && pause=$INTERVAL || pause=$((pause < 300 ? pause * 2 : 600))
}

# Begins with a look: the key may have been lost while nobody watched.
watch() {
  pause=$INTERVAL
  look
  while sleep "$pause"; do
    look
  done
}

case $action in
  due | guard | reopen | add | offer | watch | settle) "$action" "${3:-}" ;;
  forget)
    rm -f "$run/pin" "$run/pin.before" "$run/environment"
    if [ "${SERVICE_RESULT-}" = success ]; then
      # Somebody stopped it.
      rm -f "$waiting" "$opening"
    elif [ -e "$opening" ]; then
      # The gateway may have failed its own login. A few more starts are harmless if it is something else.
      see || found=''
      tried_again 5 || true
    fi
    ;;
  *) die "unknown: $action" ;;
esac
