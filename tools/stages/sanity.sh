#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Every sanity test of ansible-test, on every supported Python that is here, without an ignore file.

home=$BUILD/sanity-home
pythons=$BUILD/sanity-pythons
log=$BUILD/sanity.log

copy_collection
if compgen -G "$COPIED/tests/sanity/ignore-*.txt" >/dev/null; then
  die "There is a sanity ignore file. Mend what it hides."
fi

python -m pip config list | python "$ROOT/tools/sanity_home.py" "$home"

# ansible-test believes each pythonX.Y on the PATH; a pyenv shim without a version behind it would break it.
# So it gets a PATH of interpreters that run, and that are able to make a virtual environment.
rm -rf "$pythons"
mkdir -p "$pythons"
for version in 3.10 3.11 3.12 3.13; do
  for python in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    if [[ $("$python" -c 'import ensurepip, sys, venv; print("%s.%s" % sys.version_info[:2])' 2>/dev/null) == "$version" ]]; then
      ln -s "$("$python" -c 'import sys; print(sys.executable)')" "$pythons/python$version"
      break
    fi
  done
done

cd "$COPIED"
env -i HOME="$home" PATH="$pythons:$ROOT/.venv-dev/bin:/usr/bin:/bin" LANG=C.UTF-8 \
  ansible-test sanity --color no 2>&1 | tee "$log"

# ansible-test warns and goes on when a program that a test needs is missing. Only an absent Python may be.
if grep -E 'WARNING: (Skipping sanity test|Required program)' "$log" | grep -v 'because it could not be found'; then
  die "Not every sanity test was run."
fi
