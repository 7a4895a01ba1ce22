# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible sends to a host for one task does not grow unseen."""

from __future__ import annotations

from payload import sent

# KiB that our own files may take, and whether what fetches pages goes along.
MOST = {"keyfleet.hsm.hsm_key": (256, False), "keyfleet.hsm.hsm_status_info": (192, True)}


def test_what_is_sent_does_not_grow_unseen() -> None:
    for name, payload in sent(*MOST).items():
        most, fetches = MOST[name]
        ours = sum(size for file, size in payload["files"].items() if "/keyfleet/" in file)
        assert 0 < ours <= most * 1024, f"{name}: {ours / 1024:.0f} KiB"
        assert ("ansible/module_utils/urls.py" in payload["files"]) is fetches, name
