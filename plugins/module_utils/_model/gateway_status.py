# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a gateway or KMS says of its HSMs: whom to ask, and how its answer is read. Nothing of an answer is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import KeyfleetError
from .quoting import quoted
from .tokens.secret import Secret
from .uids import is_prefix, prefix_order

MOST_BYTES = 1024 * 1024
_MOST_SLOTS = 10_000
_LONGEST = 120  # characters of a model
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BEYOND_URL = ("gateway_token", "gateway_token_file", "gateway_client_cert", "gateway_client_key", "gateway_ca_path")


@dataclass(frozen=True)
class GatewayRequest:
    """``url`` is without a path's last slash; the files are on the target."""

    url: str
    token: Secret | None = None
    token_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    ca_path: str | None = None
    validate_certs: bool = True

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> tuple[GatewayRequest | None, list[str]]:
        """The request, None without ``gateway_url``, and what is wrong with it."""
        url = params["gateway_url"]
        if url is None:
            given = [name for name in _BEYOND_URL if params[name] is not None]
            return None, [f"{name}: belongs to gateway_url, which is missing" for name in given]
        asked = cls(
            url.rstrip("/"),
            params["gateway_token"],
            params["gateway_token_file"],
            params["gateway_client_cert"],
            params["gateway_client_key"],
            params["gateway_ca_path"],
            params["gateway_validate_certs"],
        )
        return asked, asked._problems()

    def _problems(self) -> list[str]:
        problems = _url_problems(self.url)
        if self.token is not None and self.token_file is not None:
            problems.append("gateway_token: give gateway_token or gateway_token_file, not both")
        if self.token is not None and (problem := token_problem(self.token)):
            problems.append(f"gateway_token: {problem}")
        if self.client_key is not None and self.client_cert is None:
            problems.append("gateway_client_key: belongs to gateway_client_cert, which is missing")
        if not problems and not self.is_encrypted and not self.is_local and self.has_token:
            problems.append("gateway_url: a token goes over https only, or to this host itself (localhost)")
        return problems

    @property
    def has_token(self) -> bool:
        return self.token is not None or self.token_file is not None

    @property
    def is_encrypted(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def is_local(self) -> bool:
        """Whether the host asks itself. A proxy is for what is elsewhere."""
        return urlsplit(self.url).hostname in _LOOPBACK


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return ["gateway_url: is not a URL"]
    if "@" in parts.netloc:
        return ["gateway_url: has a user or a password in it, which is shown in logs: give gateway_token or gateway_client_cert"]
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        return [f"gateway_url: {quoted(url)} is not a URL such as https://gateway.example.com:4440"]
    if parts.query or parts.fragment:
        return ["gateway_url: give it without '?' and '#': /health and /hsm/status are put behind it"]
    return []


def token_problem(token: Secret) -> str | None:
    """Why this is no bearer token that a header can hold, or None."""
    text = token.reveal()
    if not text:
        return "is empty"
    return None if text.isascii() and text.isprintable() and " " not in text else "has a blank, or a character that no token has"


def _invalid(why: str) -> KeyfleetError:
    return KeyfleetError(f"/hsm/status: {why}", code="gateway_invalid")


def parse_status(body: bytes, token: Secret | None) -> list[dict[str, Any]]:
    """The answer to ``GET /hsm/status``: prefix, model and slots of each instance, each slot with slot_id and accessible, in order.

    Raises :class:`KeyfleetError` with code ``gateway_invalid``. What else an answer holds is dropped.
    """
    if len(body) > MOST_BYTES:
        raise _invalid(f"the answer has more than {MOST_BYTES} bytes")
    if token and token.reveal().encode("utf-8") in body:
        raise _invalid("the answer repeats the token")
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _invalid("the answer is not JSON") from None
    if not isinstance(found, list):
        raise _invalid("the answer is not a list of instances")
    instances = [_instance(entry) for entry in found]
    addresses = [(entry["prefix"], slot["slot_id"]) for entry in instances for slot in entry["slots"]]
    if len(addresses) > _MOST_SLOTS:
        raise _invalid(f"the answer has more than {_MOST_SLOTS} slots")
    if len(set(addresses)) < len(addresses):
        raise _invalid("a slot is listed twice")
    return sorted(instances, key=lambda entry: (prefix_order(entry["prefix"]), entry["prefix"] or ""))


def _instance(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise _invalid("an instance is not a mapping")
    prefix, model, slots = entry.get("prefix"), entry.get("model"), entry.get("slots")
    if not isinstance(slots, list) or not (is_prefix(prefix) or (prefix is None and not slots)):
        raise _invalid("an instance has no prefix of the form hsm::<model>, or no list of slots")
    if not isinstance(model, str) or not model.isprintable() or len(model) > _LONGEST:
        raise _invalid("an instance has no model")
    return {"prefix": prefix, "model": model, "slots": sorted(map(_slot, slots), key=_by_number)}


def _slot(entry: Any) -> dict[str, Any]:
    number, accessible = (entry.get(name) for name in ("slot_id", "accessible")) if isinstance(entry, Mapping) else (None, None)
    if not isinstance(accessible, bool) or isinstance(number, bool) or not isinstance(number, (int, type(None))):
        raise _invalid("a slot has no number as slot_id, or no true or false as accessible")
    if number is not None and not 0 <= number < 2**64:
        raise _invalid("a slot_id is not the number of a slot")
    return {"slot_id": number, "accessible": accessible}


def _by_number(slot: Mapping[str, Any]) -> tuple[bool, int]:
    return slot["slot_id"] is None, slot["slot_id"] or 0


def health_of(status: int) -> bool | None:
    """What an answer to ``GET /health`` says: the gateways give 204 and 500, the Eviden KMS 200 and 503. None for any other."""
    return {200: True, 204: True, 500: False, 503: False}.get(status)
