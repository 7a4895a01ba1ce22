# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# shellcheck shell=bash
# Shared by the stages sanity and matrix, which source it after lib.sh.

CORES=$BUILD/cores

# cores all|newest: lines of ansible-core's version, Python's version and interpreter. Says what is left out.
cores() {
  local lowest
  lowest=$(sed -nE 's/^requires_ansible: ">=([0-9]+\.[0-9]+).*/\1/p' "$ROOT/meta/runtime.yml")
  "$ROOT/.venv-dev/bin/python" "$ROOT/tools/cores.py" "$1" "$CORES" "$lowest"
}

# need_core CORE PYTHON INTERPRETER: a virtual environment with this ansible-core and what tests/unit needs. Its path is $venv then.
need_core() {
  local stamp
  venv=$CORES/${1%.*}-python$2
  stamp=$("$3" -VV && echo "$venv $1" && cat "$ROOT"/requirements/{runtime,unit}.txt "$ROOT/roles/runtime/files/requirements.txt")
  [[ -f $venv/stamp.txt && $(<"$venv/stamp.txt") == "$stamp" ]] && return
  echo "Installing ansible-core $1 on Python $2 into ${venv#"$ROOT/"}"
  rm -rf "$venv"
  "$3" -m venv "$venv"
  # Its wheel was fetched before. In a file it is named beside what the settings of this machine name.
  printf '%s\n' "--find-links $CORES/wheels" "ansible-core==$1" >"$venv/core.txt"
  "$venv/bin/python" "$ROOT/tools/install.py" "$venv/core.txt" "$ROOT/requirements/unit.txt"
  echo "$stamp" >"$venv/stamp.txt"
}

# lowest_python: of those here, the lowest that modules may run on. After cores.
lowest_python() {
  local needed name
  needed=$(sed -nE 's/^  python_requires: ">= 3\.([0-9]+)"$/\1/p' "$ROOT/tests/config.yml")
  for name in "$CORES"/pythons/python3.*; do
    name=${name##*/python3.}
    ((name < needed)) || echo "$name"
  done | sort -n | sed -n '1s/^/3./p'
}

# sanity VENV [ARGUMENT...]: ansible-test sanity of the copied collection, with the ansible-core of VENV and without an ignore file.
# The virtual environments that it makes for its tests are kept.
sanity() {
  local home=$BUILD/sanity-home log=$BUILD/sanity.log venv=$1
  shift
  if compgen -G "$COPIED/tests/sanity/ignore-*.txt" >/dev/null; then
    die "There is a sanity ignore file. Mend what it hides."
  fi
  "$venv/bin/python" -m pip config list | "$venv/bin/python" "$ROOT/tools/sanity_home.py" "$home"
  # ansible-test believes each pythonX.Y on the PATH, so it gets one of interpreters that run.
  (cd "$COPIED" && env -i HOME="$home" PATH="$CORES/pythons:$venv/bin:$ROOT/.venv-dev/bin:/usr/bin:/bin" LANG=C.UTF-8 \
    ansible-test sanity --color no "$@" 2>&1) | tee "$log"
  # It warns and goes on when a program that a test needs is missing. Only an absent Python may be.
  if grep -E 'WARNING: (Skipping sanity test|Required program)' "$log" | grep -v 'because it could not be found'; then
    die "Not every sanity test was run."
  fi
}
