# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of the test hosts, which all checkouts of a machine share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import images
import pytest
from machine import Room


def test_what_no_checkout_has_used_for_long_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "build", lambda archive, _release: archive.write_text("made"))
    stays = tmp_path / "bookworm-0123456789ab.tar"
    goes = [tmp_path / name for name in ("bookworm-ba9876543210.tar", "77-bookworm-ba9876543210.tar")]
    other = tmp_path / "trixie-ba9876543210.tar"
    for file in (stays, *goes, other):
        file.write_text("of another checkout")
    for file in (*goes, other):
        os.utime(file, (0, time.time() - images.UNUSED - 60))
    archive = images.archived(tmp_path, "bookworm")
    os.utime(archive, (0, 0))
    # Whoever uses it keeps it.
    assert images.archived(tmp_path, "bookworm") == archive and archive.stat().st_mtime > time.time() - 60
    assert {file for file in (stays, *goes, other, archive) if file.exists()} == {stays, other, archive}


def test_every_room_reaches_the_shared_store_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """podman writes into a store where its state of a run is, and refuses who has it elsewhere."""
    called: list[list[str]] = []
    monkeypatch.setattr(Room, "enter", lambda _room, command, **_more: called.append(list(command)) or "")
    for name in ("one", "two"):
        room = Room(tmp_path / name, tmp_path / "images/store")
        room.run = tmp_path / f"run-{name}"
        room.run.mkdir()
        (room.run / "overlay").write_text("native")
        room.podman_shared("images")
        room.podman("images")
    assert called[0] == called[2] and called[1] != called[3]
