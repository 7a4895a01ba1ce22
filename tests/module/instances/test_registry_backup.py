# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry is saved, lost and put back: the same rows, and never in the place of one that holds anything, unless it was said."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hsm_fixture import Hsm, four_steps, ok


@pytest.fixture
def saved(primary: Hsm) -> Path:
    """A backup of a registry with one key."""
    ok(primary.keys({"label": "dek", "type": "AES"}))
    path = primary.scratch / "saved/host.db"
    four_steps(lambda check: save(primary, path, check=check))
    return path


def save(hsm: Hsm, path: Path, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_registry", **{"state": "saved", "path": str(path), "host": "one", **options})


def restore(hsm: Hsm, path: Path, **options: Any) -> dict[str, Any]:
    return hsm.run("hsm_registry", **{"state": "restored", "path": str(path), "host": "one", **options})


def lose(hsm: Hsm) -> None:
    """All but what SQLite may have left beside it."""
    Path(hsm.registry).unlink()
    Path(f"{hsm.registry}-wal").write_bytes(b"of another file")


def code(answer: dict[str, Any]) -> str:
    return str(answer["failure"]["code"])


def test_a_lost_registry_comes_back_with_all_its_rows(primary: Hsm, saved: Path) -> None:
    assert (saved.stat().st_mode & 0o777, saved.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(saved.parent.iterdir()) == [saved]
    # What a write that was killed has left goes with the next one; that of another file stays.
    left = [saved.parent / f".keyfleet-backup-{name}-abcdefgh" for name in ("two.db", saved.name)]
    for path in (*left, Path(f"{left[1]}-journal")):
        path.touch()
    ok(primary.keys({"label": "second", "type": "AES"}))
    ok(save(primary, saved))
    assert sorted(saved.parent.iterdir()) == [left[0], saved]
    before = ok(primary.run("hsm_registry"))["registry"]
    lose(primary)
    assert ok(restore(primary, saved, check=True))["changed"] and not Path(primary.registry).exists()
    done = ok(restore(primary, saved))
    assert done["registry"] == before and Path(f"{done['set_aside']}-wal").exists()
    assert Path(primary.registry).stat().st_mode & 0o777 == 0o600
    sync = ok(primary.run("hsm_sync", instance="primary"))
    assert sync["summary"] == {"added": 0, "known": 2, "missing": 0, "drifted": 0}
    assert ok(save(primary, saved))["changed"] is False


def test_what_was_made_since_is_added_and_what_is_gone_is_missing(primary: Hsm, saved: Path) -> None:
    ok(primary.keys({"label": "later", "type": "AES"}, {"label": "dek", "state": "absent"}))
    lose(primary)
    ok(restore(primary, saved))
    sync = ok(primary.run("hsm_sync", instance="primary"))
    assert [uid.rsplit("::")[-1] for uid in sync["added"] + sync["missing"]] == ["later", "dek"]
    assert ok(save(primary, saved))["changed"] is True


def test_a_registry_that_holds_anything_stays_unless_it_is_said(primary: Hsm, saved: Path) -> None:
    held = Path(primary.registry).read_bytes()
    for state in ("restored", "absent"):
        assert code(primary.run("hsm_registry", state=state, path=str(saved), host="one")) == "registry_in_place"
    assert Path(primary.registry).read_bytes() == held
    with closing(sqlite3.connect(primary.registry)) as other:
        other.execute("SELECT count(*) FROM event").fetchone()
        assert code(restore(primary, saved, over=True)) == "registry_unavailable"  # it is in use
    done = ok(restore(primary, saved, over=True))
    with closing(sqlite3.connect(done["set_aside"])) as aside:
        assert aside.execute("SELECT label FROM virtual_key").fetchall() == [("dek",)]
    Path(primary.registry).write_bytes(b"no registry at all")
    assert code(restore(primary, saved)) == "registry_invalid"
    assert Path(ok(restore(primary, saved, over=True))["set_aside"]).read_bytes() == b"no registry at all"


def damages(saved: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A file, what is said of it, and the code."""
    whole = saved.read_bytes()
    yield "cut", {}, "backup_invalid"
    (saved.parent / "cut").write_bytes(whole[: len(whole) // 2])
    yield "text", {}, "backup_invalid"
    (saved.parent / "text").write_text("no backup\n")
    yield "newer", {}, "registry_too_new"
    (saved.parent / "newer").write_bytes(whole)
    with closing(sqlite3.connect(saved.parent / "newer")) as newer:
        newer.execute("PRAGMA user_version = 1000")
    yield "unowned", {}, "backup_invalid"
    (saved.parent / "unowned").write_bytes(whole)
    with closing(sqlite3.connect(saved.parent / "unowned")) as unowned:
        unowned.execute("DROP TABLE backup_of")
    yield saved.name, {"host": "two"}, "backup_foreign"
    yield saved.name, {"instances": ["another"]}, "backup_foreign"
    yield "none", {}, "backup_missing"


def test_what_is_no_backup_of_this_host_is_neither_restored_nor_replaced(primary: Hsm, saved: Path) -> None:
    cases = list(damages(saved))
    lose(primary)
    for name, options, expected in cases:
        assert code(restore(primary, saved.parent / name, **options)) == expected, name
        assert not Path(primary.registry).exists()
    ok(restore(primary, saved))
    for name, options, expected in cases[:-2]:
        before = (saved.parent / name).read_bytes()
        assert code(save(primary, saved.parent / name, **options)) == expected, name
        assert (saved.parent / name).read_bytes() == before


def test_notes_of_runs_that_were_at_work_are_not_restored(primary: Hsm, saved: Path) -> None:
    """A key that is on the token later would be taken for what such a run has left in pieces."""
    with closing(sqlite3.connect(primary.registry)) as registry:
        registry.execute("INSERT INTO pending_key SELECT id, 'half', x'68', 0, 1, 0, 'run', '2026-01-01T00:00:00Z' FROM token")
        registry.commit()
    assert ok(save(primary, saved))["registry"]["rows"]["pending_key"] == 1
    lose(primary)
    assert ok(restore(primary, saved))["registry"]["rows"]["pending_key"] == 0
