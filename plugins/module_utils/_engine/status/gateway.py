# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a gateway or KMS says of the HSMs, against what the probe found. One that does not answer is never taken for a healthy one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._model.errors import KeyfleetError
from ..._model.gateway_status import MOST_BYTES, GatewayRequest, health_of, parse_status, token_problem
from ..._model.kms.status import OF_ANY, status_differences
from ..._model.plan import Context
from ..._model.tokens.secret import Secret
from ..files.private_files import NotPrivate, read_private
from ..tokens.side_by_side import Asking, side_by_side

_HEALTH, _STATUS = "/health", "/hsm/status"
_MOST_TOKEN_BYTES = 16 * 1024


def ask_gateway(
    asked: GatewayRequest, seconds: float, context: Context, instances: Sequence[Mapping[str, Any]], *, whole: bool
) -> dict[str, Any]:
    """The gateway's ``health`` and ``status``, and its ``differences`` from ``instances``, the probe's answers. Never raises.

    It has ``seconds`` for each of its two answers, however slowly it writes. ``whole``: all registered instances were probed; otherwise
    what it says of others is not compared.
    """
    found: dict[str, Any] = {"url": asked.url, "health": None, "status": None, "differences": [], "error": None, "code": None}
    try:
        token = asked.token if asked.token_file is None else _read_token(asked.token_file)
        health, page = _fetched(asked, token, seconds, context)
        found["health"] = _status_of(health, asked, _HEALTH)
        if health_of(found["health"]) is None:
            raise KeyfleetError(f"{_HEALTH}: {_answers(found['health'])}", code="gateway_invalid")
        code = _status_of(page, asked, _STATUS)
        if code in (401, 403):
            gives = "the token or client certificate that was given is not accepted"
            wants = "it wants to know who asks: give gateway_token, gateway_token_file, or gateway_client_cert and gateway_client_key"
            known = token is not None or asked.client_cert is not None
            raise KeyfleetError(f"{_STATUS}: {_answers(code)}: {gives if known else wants}", code="gateway_refused")
        if code != 200:
            raise KeyfleetError(f"{_STATUS}: {_answers(code)}", code="gateway_invalid")
        found["status"] = parse_status(bytes.fromhex(page["body"]), token)
        found["differences"] = _differences(found["health"], found["status"], instances, whole)
    except KeyfleetError as error:
        found |= {"error": f"{asked.url}: {error.message.rstrip('.')}.", "code": error.code}
    return found


def _answers(status: int) -> str:
    return f"answers {status}, and a redirect is not followed" if 300 <= status < 400 else f"answers {status}"


def _status_of(answer: Mapping[str, Any], asked: GatewayRequest, page: str) -> int:
    """Raises :class:`KeyfleetError` where there is none."""
    if "error" in answer:
        raise KeyfleetError(f"{page} cannot be read: {answer['error']}", code="gateway_unreachable")
    return int(answer["status"])


def _fetched(asked: GatewayRequest, token: Secret | None, seconds: float, context: Context) -> list[dict[str, Any]]:
    """The answers to both pages, from a child: neither a name that is not resolved nor a server that never ends holds this process."""
    fetch = context.fetch
    if fetch is None:
        raise TypeError("a gateway is asked with a client")

    def work() -> Iterator[dict[str, Any]]:
        for page, shown in ((_HEALTH, None), (_STATUS, token)):
            try:
                status, body = fetch(
                    f"{asked.url}{page}",
                    token=shown,
                    most=MOST_BYTES + 1,
                    seconds=seconds,
                    client_cert=asked.client_cert,
                    client_key=asked.client_key,
                    ca_path=asked.ca_path,
                    validate_certs=asked.validate_certs,
                    use_proxy=not asked.is_local,
                )
                yield {"status": status, "body": body.hex()}
            except KeyfleetError as error:
                yield {"error": error.message}

    child = Asking(work, seconds, "it")
    side_by_side([iter([child])])
    slow = {"error": f"there was no answer within {seconds:g} seconds (timeout)"}
    return [*child.answers, slow, slow][:2]


def _differences(health: int, served: list[dict[str, Any]], probed: Sequence[Mapping[str, Any]], whole: bool) -> list[dict[str, Any]]:
    if not whole:
        asked = {entry["prefix"] for entry in probed}
        served = [entry for entry in served if entry["prefix"] in asked]
    differences = status_differences(served, list(probed), OF_ANY)
    slots = [slot for entry in probed for slot in entry["slots"]]
    ill = [slot for slot in slots if slot["device_fault"]]
    # 200 is the Eviden server's, and is about its database.
    if health == 204 and ill:
        differences.append(_of_health(True, False, f"{_HEALTH} answers 204; the probe found a fault of the device: {ill[0]['error']}"))
    elif health == 500 and whole and slots and all(slot["accessible"] for slot in slots):
        differences.append(_of_health(False, True, f"{_HEALTH} answers 500; the probe of every token worked"))
    return differences


def _of_health(server: bool, probe: bool, why: str) -> dict[str, Any]:
    return {"prefix": None, "slot_id": None, "server": server, "probe": probe, "why": why}


def _read_token(path: str) -> Secret:
    """The bearer token in an owner-only file, less one newline at its end. Raises :class:`KeyfleetError`, which shows none of it."""

    def unusable(why: str) -> KeyfleetError:
        return KeyfleetError(f"gateway_token_file: {path} {why}", code="gateway_token_unusable")

    try:
        data = read_private(path, _MOST_TOKEN_BYTES + 1)
    except NotPrivate as error:
        others = ", so others can get at the token: run chmod 0600 on it" if error.mode is not None else ""
        raise unusable(f"{error}{others}") from None
    except OSError as error:
        raise unusable(f"cannot be read: {error.strerror}") from None
    token = Secret(data.decode("latin-1").removesuffix("\n"))
    if len(data) > _MOST_TOKEN_BYTES:
        raise unusable("is too large for a token")
    if problem := token_problem(token):
        raise unusable(problem)
    return token
