# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""TOML text on the target: the writer is tomli_w, the reader is Python's own or tomli."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ..._model.errors import KeyfleetError

_PLACE = re.compile(r"\(at [^()]*\)\Z")


def _reader() -> Any:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise KeyfleetError(
        "This module needs the Python library tomli on the target, whose Python is older than 3.11. Install it (pip install tomli).",
        code="missing_library",
    )


def parse(text: str) -> dict[str, Any]:
    """The document. Raises ValueError that says where the text is wrong, and shows nothing of it: it may hold PINs."""
    reader = _reader()
    try:
        document: dict[str, Any] = reader.loads(text)
    except reader.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        raise ValueError(f"is not valid TOML{f' {place.group()}' if place else ''}") from None
    return document


def render(document: dict[str, Any]) -> str:
    """The text of a document of plain values, keys in their order."""
    import tomli_w

    return str(tomli_w.dumps(document))
