# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which state the files have that systemd copies the credentials from.

systemd makes the copies anew at each start, so they do not tell whether a PIN has changed, and the service's user may not look at the
originals. So the unit has root look before each start (ExecStartPre=+), and write down when each was last written and how long it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .config import CREDENTIAL, Config, ConfigError, path_of

_FILE = "origins.json"


def look(config: Config) -> dict[str, str]:
    """By the name of each credential, its file's state. One that cannot be looked at is left out."""
    found = {}
    for name, path in (config.credentials or {}).items():
        with suppress(OSError):
            status = os.stat(path)
            # No inode and no device: both may be others after a reboot.
            found[name] = f"credential:{status.st_mtime_ns}:{status.st_size}"
    return found


def write(origins: Mapping[str, str], folder: str) -> None:
    """For the service, which owns the folder: a link that lies there leads nowhere. Raises OSError.

    For nobody else: how long a PIN is, is a part of the secret.
    """
    path = Path(folder, _FILE)
    with suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fchown(file.fileno(), os.stat(folder).st_uid, -1)
        json.dump(dict(origins), file)


def read(config: Config) -> dict[str, str]:
    """By the path of each PIN that is a credential, its original's state.

    Raises :class:`ConfigError` for one whose state is not known: a refused PIN would be tried again at each start.
    """
    wanted = sorted(
        {token.pin_file for spec in config.instances for token in spec.tokens if token.pin_file and token.pin_file.startswith(CREDENTIAL)}
    )
    if not wanted:
        return {}
    folder = os.environ.get("RUNTIME_DIRECTORY", "")
    try:
        known = json.loads(Path(folder, _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    states = {text: known.get(text.removeprefix(CREDENTIAL)) for text in wanted}
    problems = [
        f"{text}: nobody looked at its file before this start. The unit does that with ExecStartPre=+… --write-origins"
        for text, state in states.items()
        if not isinstance(state, str)
    ]
    if problems:
        raise ConfigError(problems)
    return {path_of(text): state for text, state in states.items()}
