# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""C_Finalize where python-pkcs11 takes a library for finalised that may not be: after a C_Finalize or C_Initialize that failed."""

from __future__ import annotations

import ctypes

from .function_list import FINALIZE, function


def finalize(library: str) -> None:
    """Whatever it answers: most often that it is not initialised. The library is one that this process has loaded."""
    rv, call = function(library, FINALIZE, ctypes.c_void_p)
    if rv == 0:
        call(None)
