# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which names the installed server knows, by its own word."""

from __future__ import annotations

import os

from ..._model.kms.names import BUILT_IN, Names, printed_names
from ..._model.plan import Context


def server_names(path: str, context: Context) -> Names:
    """What the program at ``path`` prints; the list of this collection where there is none. A program that prints something else gives
    a warning."""
    if context.command is None or not os.path.isfile(path):
        return BUILT_IN
    try:
        # It reads a file .env where it is started.
        code, out, _errors = context.command([path, "--print-default-config"], cwd="/", handle_exceptions=False)
        names = printed_names(out, path) if code == 0 else None
        reason = f"it ended with {code}" if code else "it printed something else"
    except OSError as error:
        names, reason = None, error.strerror or str(error)
    if names is None:
        context.warn(
            f"server_path: {path} does not say which settings it knows (--print-default-config: {reason}), so they are checked by those of "
            "version 5.28."
        )
    return names or BUILT_IN
