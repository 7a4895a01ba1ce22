#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The workflows of .github, and the shell in them. PyPI has actionlint only as a download from elsewhere, so Go builds it, once.

version=1.7.12
# Where Go's own installation is, last.
PATH=$PATH:/usr/local/go/bin
export GOBIN=$BUILD/go/bin-$version GOPATH=$BUILD/go GOCACHE=$BUILD/go/cache

if [[ ! -x $GOBIN/actionlint ]]; then
  command -v go >/dev/null || die "Please install Go 1.25 or later, which builds actionlint."
  echo "Building actionlint $version"
  go install -modcacherw "github.com/rhysd/actionlint/cmd/actionlint@v$version"
  rm -rf "$GOCACHE" "$GOPATH/pkg"
fi
"$GOBIN/actionlint" .github/workflows/*.yml
