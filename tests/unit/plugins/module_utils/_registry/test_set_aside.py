# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry that gets another name: it takes that of no other one, however fast they follow each other."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.backup import set_aside


def test_each_keeps_what_it_holds(tmp_path: Path) -> None:
    registry, kept = tmp_path / "registry.db", {}
    for number in range(5):
        registry.write_text(f"damaged {number}")
        registry.chmod(0o600)
        aside = set_aside(str(registry))
        assert aside is not None and not registry.exists()
        kept[aside] = f"damaged {number}"
    # What SQLite left beside one has a name of its own as well.
    Path(f"{registry}-wal").write_text("beside")
    aside = set_aside(str(registry))
    assert aside is not None and Path(f"{aside}-wal").read_text() == "beside"
    assert {path: Path(path).read_text() for path in kept} == kept and len(kept) == 5
    assert set_aside(str(registry)) is None
