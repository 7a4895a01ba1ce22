# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scratch HSMs: a SoftHSM token with nothing in it, registered as an instance. Never part of what is timed."""

from __future__ import annotations

import shutil
from pathlib import Path

from hsm_fixture import Hsm

INSTANCE, TOKEN = "primary", "payments"


def without_token(folder: Path) -> Hsm:
    """A folder for an HSM with nothing in it; what was there is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    return Hsm(folder)


def fresh(folder: Path) -> Hsm:
    """An empty token and a registry that knows it."""
    hsm = without_token(folder)
    hsm.register(INSTANCE)
    return hsm
