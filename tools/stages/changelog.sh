#!/usr/bin/env bash
# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Without sphinx, as ansible-test calls it: nobody needs its roles in a fragment, and to set it up for each line is most of the time.
python -c 'import sys; sys.modules["sphinx"] = None; from antsibull_changelog.cli import main; sys.exit(main())' lint
antsibull-changelog lint-changelog-yaml changelogs/changelog.yaml
