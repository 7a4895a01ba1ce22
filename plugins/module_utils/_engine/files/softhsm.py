# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Where SoftHSM2 keeps its tokens, and which of their objects it hides from this user."""

from __future__ import annotations

import os
from pathlib import Path

from ..._model.tokens.vendors import HIDES_UNREADABLE

# Where SoftHSM2 looks when SOFTHSM2_CONF is not set: in the user's own folder, then as Debian and Fedora build it.
_SYSTEM_FILES = ("/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf")
_USER_FILE = ".config/softhsm2/softhsm2.conf"


def token_directory(*configurations: str) -> Path | None:
    """The token directory that the first configuration names which is there; by default the system's. None where there is no such
    file, or this user cannot read it."""
    for path in configurations or _SYSTEM_FILES:
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _equals, value = line.partition("=")
            if name.strip() == "directories.tokendir" and value.strip().startswith("/"):
                return Path(value.strip())
    return None


def hidden_objects(model: str, serial: str) -> str | None:
    """Why objects of a token may be there and not be shown: SoftHSM2 passes over every object file that this user cannot open, and
    says nothing. None where nothing is hidden, and for every other ``model`` (of C_GetTokenInfo).

    Only while the token's library is open: its configuration is found through the environment of that. A token's folder is named by
    a UUID that ends with its serial number.
    """
    if model not in HIDES_UNREADABLE:
        return None
    own = os.environ.get("SOFTHSM2_CONF")
    home = str(Path(os.environ.get("HOME", "/nowhere"), _USER_FILE))
    folder = token_directory(own) if own else token_directory(home, *_SYSTEM_FILES)
    try:
        tokens = [path for path in folder.iterdir() if path.name.replace("-", "").endswith(serial)] if folder is not None and serial else []
        hidden = sorted(path for token in tokens for path in token.glob("*.object") if not os.access(path, os.R_OK))
    except OSError:
        return None  # such a token is not shown either
    if not hidden:
        return None
    number = f"{len(hidden)} object files" if len(hidden) > 1 else "an object file"
    return f"this user cannot open {number} in {hidden[0].parent} ({hidden[0].name}), and SoftHSM2 hides what is in there"
