# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=bash
# Shared by the scripts of this folder, which source it: paths, virtual environments, distribution packages.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$ROOT/.build
LINKED=$BUILD/collections/ansible_collections/keyfleet/hsm
# Each stage has its own, since some run side by side.
COPIED=$BUILD/copy/$(basename "$0" .sh)/ansible_collections/keyfleet/hsm

# Ansible keeps its caches here, and finds no other collection than this checkout.
export ANSIBLE_HOME=$BUILD/ansible
# Modules are copied into the home folder otherwise, which must stay untouched and need not exist.
export ANSIBLE_REMOTE_TMP=$BUILD/ansible/tmp
export ANSIBLE_COLLECTIONS_PATH=$BUILD/collections
export PIP_DISABLE_PIP_VERSION_CHECK=1
# What Python compiles is kept, here and not beside its sources. Environments of containers often say that it is not to be: then each of
# thousands of programs compiles all that it imports, which for ansible-playbook is a third of a run without tasks.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$BUILD/pycache
# A Git hook that calls make must not lead the calls of git below to its own repository.
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# installed PACKAGE: is what this Debian package brings already there, wherever it came from?
installed() {
  case $1 in
    aardvark-dns | netavark) command -v "/usr/lib/podman/$1" ;;
    crun | fuse-overlayfs | gcc | git | iptables | mmdebstrap | podman) command -v "$1" ;;
    libc6-dev) echo '#include <stdio.h>' | gcc -E - ;;
    gnutls-bin) command -v p11tool ;;
    libengine-pkcs11-openssl) find /usr/lib -path "*engines-3/pkcs11.so" | grep -q . ;;
    libnss3) find /usr/lib -name libsoftokn3.so | grep -q . ;;
    opencryptoki) command -v pkcsslotd ;;
    opensc) command -v pkcs11-tool ;;
    openssh-client) command -v ssh && command -v ssh-keygen ;;
    procps) command -v pgrep ;;
    python3-venv) python_version_fits /usr/bin/python3 ;;
    softhsm2) command -v softhsm2-util ;;
    *) dpkg-query --status "$1" ;;
  esac >/dev/null 2>&1
}

# missing PACKAGE...: those of them that are not there.
missing() {
  local package
  for package; do
    installed "$package" || printf '%s ' "$package"
  done
}

# need_packages PACKAGE...: installs the Debian packages that are missing.
need_packages() {
  # What packages compile for the machine is not kept here.
  local missing=() as_root=() elsewhere=(env --unset=PYTHONPYCACHEPREFIX)
  read -ra missing <<<"$(missing "$@")"
  ((${#missing[@]})) || return 0
  # Of stages at the same moment one installs, and the others wait and look again.
  mkdir -p "$BUILD"
  exec 8>"$BUILD/packages.lock"
  flock 8
  read -ra missing <<<"$(missing "$@")"
  ((${#missing[@]})) || { exec 8>&- && return; }
  command -v apt-get >/dev/null || die "Please install the equivalents of these Debian packages: ${missing[*]}"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "Neither root nor sudo here. Please run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  echo "Installing Debian packages: ${missing[*]}"
  # The lock is not for services that a package starts.
  "${as_root[@]}" "${elsewhere[@]}" apt-get update -qq 8>&-
  "${as_root[@]}" "${elsewhere[@]}" DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null 8>&-
  exec 8>&-
}

# ansible-core runs on these, 2.19 on the first and newer ones on the others. A name on the PATH proves nothing (pyenv's shims), so it is run.
# Of each version the distribution's comes first: it is built with profiles and takes a tenth less CPU than what pyenv builds.
python_version_fits() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
  local candidate candidates=({/usr/bin/,}python3.11 {/usr/bin/,}python3.12 {/usr/bin/,}python3.13 python3)
  for candidate in ${PYTHON:-"${candidates[@]}"}; do
    if python_version_fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# need_venv FOLDER REQUIREMENTS: makes or renews a virtual environment, unless it is up to date.
need_venv() {
  local venv=$1 requirements=$2 python stamp
  python=$(find_python) || need_packages python3-venv
  python=$(find_python) || die "No Python 3.11, 3.12 or 3.13 with venv found. Set PYTHON to one."
  stamp=$("$python" -VV && echo "$venv" && cat "$ROOT"/requirements/*.txt "$ROOT"/roles/*/files/*requirements.txt)
  [[ -f $venv/stamp.txt && $(<"$venv/stamp.txt") == "$stamp" ]] && return
  echo "Installing requirements/$requirements.txt into ${venv##*/}"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" "$ROOT/tools/install.py" "$ROOT/requirements/$requirements.txt"
  echo "$stamp" >"$venv/stamp.txt"
}

# The checkout under the path that Ansible and Python import it by.
link_collection() {
  mkdir -p "${LINKED%/*}"
  ln -sfn "$ROOT" "$LINKED"
}

# Every file that Git does not ignore, tracked or not; also outside a Git checkout.
source_files() {
  mkdir -p "$BUILD"
  [[ -d $BUILD/index.git ]] || git init --quiet --bare "$BUILD/index.git"
  git --git-dir="$BUILD/index.git" --work-tree="$ROOT" -C "$ROOT" ls-files -z --others --exclude-standard
}

# A fresh copy of those files under a real path, and a Git repository of its own: ansible-test and
# ansible-lint ask Git for the files, and must not be answered by the checkout that ignores .build.
copy_collection() {
  rm -rf "$COPIED"
  mkdir -p "$COPIED"
  source_files | tar -C "$ROOT" --create --null --files-from=- | tar -C "$COPIED" --extract
  git init --quiet "$COPIED"
}

# start_as_tests: from now on ansible-playbook and modules on this machine start as in the tests, see tests/fleet/host_start.py.
start_as_tests() {
  mkdir -p "$BUILD/bytecode"
  "$ROOT/.venv-dev/bin/python" "$ROOT/tests/fleet/python_start.py" "$BUILD/start"
  export PYTHONPATH=$BUILD/start KEYFLEET_BYTECODE=$BUILD/bytecode
}

# test_in_shards ARGUMENT...: pytest in two processes side by side, each with locks of its own, and one answer of both.
test_in_shards() {
  local own=$ROOT/tools/own_shm.sh
  export HYPOTHESIS_STORAGE_DIRECTORY=$BUILD/hypothesis
  if "$own" "$own" true 2>/dev/null; then
    "$own" python -m pytest --basetemp /dev/shm/tests --dist loadscope --tx "2*popen//python='$own' python" "$@"
  else
    echo "No mount namespace to be had here: the tests run in one process."
    python -m pytest "$@"
  fi
}
