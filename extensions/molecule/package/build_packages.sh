#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Builds the scenario's own packages: build_packages.sh FOLDER

set -euo pipefail

mkdir -p "$1"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# build FILE PACKAGE VERSION [DEPENDS]: a package with a configuration file. What FILE is called says nothing of what is in it.
build() {
  rm -rf "${root:?}"/*
  mkdir "$root/DEBIAN" "$root/etc"
  chmod 755 "$root" "$root"/*
  echo "as $3 ships it" >"$root/etc/$2.conf"
  echo "/etc/$2.conf" >"$root/DEBIAN/conffiles"
  cat >"$root/DEBIAN/control" <<END
Package: $2
Version: $3
Architecture: all
Maintainer: keyfleet.hsm contributors <nobody@invalid>
Depends: ${4:-bash}
Description: package of a test
END
  dpkg-deb --root-owner-group -Zgzip --build "$root" "$folder/$1"
}

folder=$1
build old.deb keyfleet-example 1.9
build new.deb keyfleet-example 1.10
build needs.deb keyfleet-needs 1 'tree (>= 1), no-such-package | bash'
build other.deb keyfleet-other 1:2-3
echo 'no package' >"$folder/text.deb"
