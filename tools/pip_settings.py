# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pip is told on this machine, by its files and by the environment: an index, a certificate, a folder of wheels."""

from __future__ import annotations

import ast
import configparser


def pip_settings(listing: str) -> configparser.RawConfigParser:
    """Read what ``pip config list`` prints. What comes from the environment wins."""
    settings = configparser.RawConfigParser()
    for line in sorted(listing.splitlines(), key=lambda line: line.startswith(":env:")):
        name, value = line.split("=", 1)
        section, key = name.rsplit(".", 1)
        if key != "config-file":
            section = "global" if section == ":env:" else section
            settings.read_dict({section: {key: ast.literal_eval(value)}})
    return settings
