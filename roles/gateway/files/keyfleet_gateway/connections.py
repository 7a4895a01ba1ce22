# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What limits a client that is slow, or many: aiohttp waits for a request's headers as long as they take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

MOST = 512  # connections at a time, of one listener
PATIENCE = 15.0  # seconds from a connection's beginning, or its last whole request, to the next whole one
LIMITS: dict[str, Any] = {
    "keepalive_timeout": 10.0,
    "max_line_size": 2048,
    "max_field_size": 8190,
    "max_headers": 64,
    "lingering_time": 1.0,
}
HANDSHAKE = 10.0  # seconds
BACKLOG = 1024


class Discreet(web.RequestHandler):
    """aiohttp's protocol. Its answer to what is not a request would repeat a part of that, which may be a secret."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        return super().handle_error(request, status, exc, HTTPStatus(status).phrase)


class Guarded(asyncio.Protocol):
    """A connection with a limit of time: everything goes on to aiohttp's own protocol until that is over."""

    def __init__(self, inner: asyncio.Protocol, there: set[Guarded]) -> None:
        self._inner, self._there = inner, there
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._inner.connection_made(transport)
        if len(self._there) >= MOST:
            self._end()
            return
        self._there.add(self)
        self.served()

    def served(self) -> None:
        """A whole request has come: the next one has its time from now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._end)

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._there.discard(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def guarding(server: web.Server) -> Callable[[], Guarded]:
    """Protocols for ``create_server`` around aiohttp's, which hand their requests to ``server``."""
    there: set[Guarded] = set()
    settings: dict[str, Any] = {**LIMITS, "access_log": None}
    return lambda: Guarded(Discreet(server, loop=asyncio.get_running_loop(), **settings), there)


def served(request: web.Request) -> None:
    """Call it for each request that has come whole."""
    protocol = request.transport.get_protocol() if request.transport is not None else None  # None: the client is gone
    if isinstance(protocol, Guarded):
        protocol.served()
