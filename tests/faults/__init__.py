# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What does a module say, and what does its next run make of it, when a PKCS#11 call fails? ``make faults`` tries every call.

For each state (:mod:`.states`) the calls of a run are recorded. Then each is failed before and after its effect, and the process is
killed there (:mod:`.points`). What the module answered is compared with what another program finds on the token (:mod:`.view`), and
a run without faults must come to the same end as if nothing had happened (:mod:`.trial`).
"""
