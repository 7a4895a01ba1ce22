# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a new database of NSS its first PIN, as ``certutil -N`` does. As a program: the library and its text; the PIN on standard input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.keyfleet.hsm.plugins.module_utils._cryptoki.provider import open_provider
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.starting import Starting

LABEL = "NSS Certificate DB"


def new_database(folder: Path, pin: str) -> dict[str, Any]:
    """Arguments of hsm_instance for the token of a new database in ``folder``."""
    found = sorted(Path("/usr/lib").rglob("libsoftokn3.so"))
    assert found, "libsoftokn3.so is missing: install libnss3"
    text = f"configdir='sql:{folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
    subprocess.run([sys.executable, __file__, str(found[0]), text], input=pin, text=True, check=True)
    token = {"label": LABEL, "pin": pin, "pin_file": str(folder / "pin")}
    return {"name": "nss", "model": "nss", "library": str(found[0]), "init_args": text, "tokens": [token]}


if __name__ == "__main__":
    with open_provider([sys.argv[1]], Starting(init_args=sys.argv[2])) as provider:
        token = provider.find(TokenSelector("slot", 2))
        assert token is not None and token.slot.get_token().label == LABEL
        session = token.slot.get_token().open(rw=True, so_pin="")
        session.init_pin(sys.stdin.read())
        session.close()
