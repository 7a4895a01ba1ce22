# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where SoftHSM2 keeps its tokens. What it hides is tried in ``tests/module/whole``, by a user who cannot open all files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.softhsm import hidden_objects, token_directory


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("directories.tokendir = /srv/tokens\n", "/srv/tokens"),
        ("# directories.tokendir = /old\nlog.level = INFO\ndirectories.tokendir=/srv/tokens  \n", "/srv/tokens"),
        ("directories.tokendir = tokens\n", None),  # not a path that another process could follow
        ("log.level = INFO\n", None),
    ],
)
def test_the_token_directory_is_what_the_configuration_says(tmp_path: Path, lines: str, found: str | None) -> None:
    (tmp_path / "softhsm2.conf").write_text(lines)
    folder = token_directory(str(tmp_path / "missing"), str(tmp_path / "softhsm2.conf"))
    assert folder == (Path(found) if found is not None else None)


@pytest.mark.parametrize(("model", "serial"), [("SoftHSM v2", "0123456789abcdef"), ("SoftHSM v2", ""), ("Luna K7", "cdef")])
def test_what_can_be_opened_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, serial: str) -> None:
    token = tmp_path / "b743a2f4-5f74-8006-0123-456789abcdef"
    token.mkdir()
    (token / "a.object").touch()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    assert hidden_objects(model, serial) is None
