# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Two states of the server's configuration for a diff: secrets are not shown, yet a changed one shows as changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..toml_values import same
from .config import INSTANCES, NO_LOGIN

SECRET, CHANGED = "(secret)", "(secret, changed)"

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|api_?key|access_key|private_key|migration_key|auth_header"
    r"|salt|basic_auth|(?:jwt|hmac|session|signing|cookie|auth)_key\Z"
    r"|(?:^|_)(?:pin|pwd|pw|pass)(?:_|\Z)",
    re.IGNORECASE,
)
# The user part of a URL, taken too wide rather than too narrow, and name=value inside a text.
_SECRET_PART = re.compile(
    r"(?P<head>://|\A(?=[^\s/@:]+:(?!//)[^\s@]*@))(?P<user>\S+)(?=@)"
    r"|(?P<name>(?:\A|[?&;,\s])[\w.-]*(?:passw|passphrase|pass|pwd|secret|token|api_?key)[\w.-]*\s*=\s*)"
    r"(?P<value>'[^']*'?|\"[^\"]*\"?|[^&;\s]+)",
    re.IGNORECASE,
)
_KEY_BLOCK = "PRIVATE KEY-----"
_NOTHING = object()


def masked_pair(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Both documents without a secret. In the second one a secret that differs from the first's is marked."""
    if before is None:
        return None, _masked_document(after, {})
    return _masked_document(before, before), _masked_document(after, before)


def _masked_document(document: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    passwords = _passwords(peer)
    result = {}
    for name, value in document.items():
        if name == INSTANCES and isinstance(value, list):
            result[name] = [_masked_entry(entry, passwords) for entry in value]
        else:
            result[name] = _masked(value, peer.get(name, _NOTHING), is_secret(name))
    return result


def is_secret(name: str) -> bool:
    """Whether what stands behind the key ``name`` is a secret."""
    return bool(_SECRET_NAME.search(name))


def _zipped(entry: Any) -> list[tuple[tuple[str, Any], Any]]:
    """``((model, slot), password)`` as the server pairs them."""
    if not isinstance(entry, Mapping):
        return []
    slots, passwords = entry.get("hsm_slot"), entry.get("hsm_password")
    if not isinstance(slots, list) or not isinstance(passwords, list):
        return []
    model = str(entry.get("hsm_model")).lower()
    return [((model, str(slot)), password) for slot, password in zip(slots, passwords, strict=False)]


def _passwords(document: Mapping[str, Any]) -> dict[tuple[str, Any], Any]:
    entries = document.get(INSTANCES)
    return dict(pair for entry in entries for pair in _zipped(entry)) if isinstance(entries, list) else {}


def _masked_entry(entry: Any, passwords: Mapping[tuple[str, Any], Any]) -> Any:
    """One HSM. A PIN is compared with that of the same slot, wherever it stood before."""
    if not isinstance(entry, Mapping):
        return _masked(entry, _NOTHING, True)
    peer = {"hsm_password": [passwords.get(key, _NOTHING) for key, _password in _zipped(entry)]}
    return {name: _masked(value, peer.get(name, _NOTHING), is_secret(name)) for name, value in entry.items()}


def _masked(value: Any, peer: Any, secret: bool) -> Any:
    if isinstance(value, Mapping):
        peers = peer if isinstance(peer, Mapping) else {}
        return {name: _masked(item, peers.get(name, _NOTHING), secret or is_secret(name)) for name, item in value.items()}
    if isinstance(value, list):
        others = peer if isinstance(peer, list) else []
        return [_masked(item, others[index] if index < len(others) else _NOTHING, secret) for index, item in enumerate(value)]
    if isinstance(value, bool) or (secret and value == NO_LOGIN):
        return value
    if secret or (isinstance(value, str) and _KEY_BLOCK in value):
        return SECRET if peer is _NOTHING or same(value, peer) else CHANGED
    return _masked_text(value, peer) if isinstance(value, str) else value


def _masked_text(text: str, peer: Any) -> str:
    """A text with the credentials in it cut out, as in ``postgresql://user:password@host``."""
    parts = _parts(text)
    mark = CHANGED if isinstance(peer, str) and _parts(peer) != parts else SECRET
    return _SECRET_PART.sub(lambda match: f"{match['head'] or match['name']}{mark}", text)


def _parts(text: str) -> list[str]:
    return [match["user"] or match["value"] for match in _SECRET_PART.finditer(text)]
