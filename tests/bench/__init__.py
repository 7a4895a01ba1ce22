# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast is hsm_key for many keys, side by side with what else there is? ``make bench`` runs it.

``make bench BENCH_ARGS=--sync`` asks instead whether a key costs hsm_sync more where there are more of them.
``--network`` counts PKCS#11 calls and bytes, and shows what a run costs where each call takes a millisecond longer.
``--peer`` runs OpenTofu with terraform-provider-pkcs11 beside it, where somebody has both and names them.

Times of different moments mean little on a machine that does other work, so every variant runs in each round, and what is
compared is what ran in the same round.
"""
