# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The one import of python-pkcs11, so that the files beside it can be read without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    pkcs11: Any = import_module("pkcs11")
except ImportError:
    pkcs11 = None  # _module.runtime reports it before anything here is called


def mechanism(name: str) -> Any:
    """python-pkcs11's member for a mechanism's name without ``CKM_``. It puts an underscore before historical ones."""
    return pkcs11.Mechanism[name if name in pkcs11.Mechanism.__members__ else f"_{name}"]


def key_type(name: str) -> Any:
    """The same for a key type's name without ``CKK_``."""
    return pkcs11.KeyType[name if name in pkcs11.KeyType.__members__ else f"_{name}"]
