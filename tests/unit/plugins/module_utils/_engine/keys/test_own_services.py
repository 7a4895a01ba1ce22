# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the notes of the host itself say of a key: used, not used, or nothing that could be taken for either."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.keys.own_services import with_own_services
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.in_use import InUse

OLD, NEW = "pkcs11:token=here;object=k;type=private\n", "pkcs11:token=here;object=k%402;type=private\n"
USES, UNKNOWN = "services of 'this host' use it", "nobody knows whether services of 'this host' use it"


@pytest.mark.parametrize(
    ("declared", "notes", "why"),
    [
        ([], None, None),
        ([], {}, None),
        (["web"], {"web.uses": NEW}, None),
        (["web"], {"web.uses": ""}, None),
        (["web"], {"web.uses": NEW + OLD}, USES),
        (["web", "mail"], {"web.uses": NEW, "mail.uses": OLD}, USES),
        # It was declared once, and may run still.
        ([], {"web.uses": OLD, "web.halt": ""}, USES),
        # Without its note nobody knows, and what is no address of a key is no note.
        (["web"], {}, UNKNOWN),
        (["web"], None, UNKNOWN),
        (["web", "mail"], {"web.uses": NEW, "mail.halt": ""}, UNKNOWN),
        (["web"], {"web.uses": "pkcs11:token=here\n"}, UNKNOWN),
        (["web"], {"web.uses": b"\xff\n"}, UNKNOWN),
    ],
)
def test_what_services_of_this_host_say(tmp_path: Path, declared: list[str], notes: dict[str, str | bytes] | None, why: str | None) -> None:
    etc, var = tmp_path / "etc", tmp_path / "var"
    for name in declared:
        (etc / name).mkdir(parents=True)
        (etc / name / "settings").touch()
    if notes is not None:
        var.mkdir()
    for file, text in (notes or {}).items():
        (var / file).write_bytes(text.encode() if isinstance(text, str) else text)
    assert with_own_services(InUse(), etc, var).reason("k", "here") == why


def test_what_may_not_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    # Root may read all: a file where a folder should be is as unreadable to it.
    (tmp_path / "var").touch()
    assert with_own_services(InUse(), tmp_path / "etc", tmp_path / "var").reason("k", "here") == UNKNOWN
    (tmp_path / "etc").touch()
    assert with_own_services(InUse(), tmp_path / "etc", tmp_path / "none").reason("k", "here") == UNKNOWN


def test_what_other_hosts_say_stays(tmp_path: Path) -> None:
    told, _problems = InUse.parse({"app1": [OLD.strip()], "app2": None})
    both = with_own_services(told, tmp_path, tmp_path)
    assert both.reason("k", "here") == "services of 'app1' use it" and both.hosts["this host"] == frozenset()
