# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PIN files: who may read them, and what counts as another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.private_files import read_pin
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.tokens.refused_pins import Tried, is_new_try, name_origins
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import PinError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import TokenRecord
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector


@pytest.mark.parametrize(
    ("mode", "given", "taken"), [(0o400, False, True), (0o440, False, False), (0o440, True, True), (0o404, True, False)]
)
def test_mask_of_a_credentials_access_list_is_no_other_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, given: bool, taken: bool
) -> None:
    """Only of a credential that is root's: one of another owner never has such a list."""
    path = tmp_path / "pin"
    path.write_text("pin-7391\n")
    path.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path) if given else "/run/credentials/other")
    try:
        assert read_pin(str(path), "pin_file").reveal() == "pin-7391" and (taken and (mode == 0o400 or os.geteuid() == 0))
    except PinError as error:
        assert error.code == "pin_file_unsafe" and not (taken and (mode == 0o400 or os.geteuid() == 0))


def test_copy_is_as_new_as_its_original(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("pin-7391\n")
    tried = Tried(str(copy))
    name_origins({str(copy): "credential:1:7"})
    try:
        token = TokenRecord(TokenSelector("label", "a"), pin_file=str(copy), refusals=frozenset({tried.mark() or ""}))
        copy.write_text("pin-7391 \n")
        assert not is_new_try(token, tried), "the copy was made anew, and its original is the same"
        name_origins({str(copy): "credential:2:7"})
        assert is_new_try(token, tried)
        assert not is_new_try(TokenRecord(TokenSelector("label", "a")), tried), "nothing was refused"
    finally:
        name_origins({})
    assert (tried.mark() or "").count(":") == 3
