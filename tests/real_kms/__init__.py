# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does the real Eviden server use what this collection makes, and the other way round? ``make real-kms`` asks it.

The server (:mod:`.server`) runs on a ``kms.toml`` that kms_config wrote, on SoftHSM2 tokens of hsm_instance, and is asked in its own
protocol (:mod:`.kmip`). Each step of :mod:`.steps` and :mod:`.refusals` is one row of the table in docs/kms.md.
"""
