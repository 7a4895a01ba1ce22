#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Prometheus' own program reads the alerting rules, and plays each of them. Not in the gate: on Debian it comes with the whole server. That
# the rules name metrics which there are is held by tests/unit/test_alert_rules.py.

promtool=${PROMTOOL:-promtool}
command -v "$promtool" >/dev/null || {
  echo "promtool is missing: it is in Debian's package prometheus, which starts a server when it is installed. Without one:" >&2
  echo "apt-get download prometheus && dpkg -x prometheus_*.deb FOLDER && PROMTOOL=FOLDER/usr/bin/promtool make alerts" >&2
  exit 1
}
cd "$ROOT/roles/gateway/files/prometheus"
"$promtool" check rules keyfleet.rules.yml
"$promtool" test rules keyfleet.test.yml
