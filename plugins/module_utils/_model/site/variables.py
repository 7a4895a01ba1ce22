# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The variables of the playbook site, and names in an inventory that look like one and are none: Ansible would ignore them in silence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase

# Those that are not a role's, with the default as docs/fleet.md has it.
SITE = {
    "hsm_instances": "required",
    "hsm_groups": "none",
    "hsm_keys": "none",
    "hsm_certificates": "none",
    "hsm_certificates_dir": "none",
    "hsm_certificates_renew": "`false`",
    "hsm_registry": "`/var/lib/keyfleet/registry.db`",
    "hsm_manage_softhsm": "`true`",
    "hsm_group_require": "`covered`",
    "hsm_sync_repair": "none",
    "hsm_sync_prune": "`false`",
    "hsm_sync_refresh": "none",
    "hsm_sync_export": "none",
    "site_undeclared": "`report`",
    "site_own_variables": "none",
    "hsm_allow_low_pin_count": "`false`",
    "hsm_hosts": "the canaries, then `hsm`",
    "hsm_serial": "`[1, 1, '100%']`",
    "hsm_load_balancers": "`load_balancers`",
    "hsm_application_hosts": "`application_hosts`",
}
# Names that begin so are ours. Those of other roles begin with words that an inventory may well use for something else, so only a name
# that is almost one of ours is refused.
_OURS = ("hsm_", "kms_")
_NEAR, _ALMOST = 0.75, 0.9  # difflib's ratio


def variable_name_problems(names: Iterable[str], known: Collection[str], noted: Collection[str], own: Iterable[str]) -> Iterator[str]:
    """One problem for each of ``names`` that nothing reads.

    ``known`` are the variables of site and the roles, ``noted`` those that the roles set themselves, ``own`` the user's patterns.
    """
    patterns = list(own)
    for name in sorted(set(names) - set(known) - set(noted)):
        ours = name.startswith(_OURS)
        near = get_close_matches(name, sorted(known), n=1, cutoff=_NEAR if ours else _ALMOST)
        if (ours or near) and not any(fnmatchcase(name, pattern) for pattern in patterns):
            hint = f", did you mean {near[0]}?" if near else "."
            yield f"{name}: unknown variable{hint} If it is one of your own, list it in site_own_variables."
