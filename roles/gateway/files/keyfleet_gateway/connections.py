# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What limits a client that is slow, or many: aiohttp waits for a request's headers as long as they take, and asyncio counts nobody."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import weakref
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

MOST = 512  # connections at a time, of one listener
MOST_TLS = 128  # each has buffers of more than 256 KiB
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
_PAUSE = 0.1  # seconds
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Discreet(web.RequestHandler):
    """aiohttp's protocol. Its answer to what is not a request would repeat a part of that, which may be a secret."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        return super().handle_error(request, status, exc, HTTPStatus(status).phrase)


class Guarded(asyncio.Protocol):
    """A connection with a limit of time: everything goes on to aiohttp's own protocol until that is over. ``context`` gives the one that
    its listener has now."""

    def __init__(self, inner: asyncio.Protocol, lost: Callable[[], None], context: Callable[[], ssl.SSLContext | None]) -> None:
        self._inner, self._lost, self._context = inner, lost, context
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._inner.connection_made(transport)
        self.served()
        self.judge()  # the context may have become another one during the handshake

    def judge(self) -> None:
        """End it when its client showed a certificate that another context checked: it may be revoked since, or its CA trusted no more."""
        session = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        if self._transport is not None and session is not None and session.context is not self._context() and session.getpeercert():
            self._transport.close()

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
        self._lost()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class Listener:
    """One listening socket, whose requests aiohttp's ``server`` gets. A client counts from the moment at which it is accepted: its TLS
    handshake, too, takes memory and time."""

    def __init__(self, listening: socket.socket, server: web.Server, context: ssl.SSLContext | None) -> None:
        self._listening, self._server, self.context = listening, server, context
        self._most = MOST if context is None else MOST_TLS
        self._clients: set[socket.socket] = set()
        self._connected: weakref.WeakSet[Guarded] = weakref.WeakSet()
        self._beginning: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listening.getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Nobody is accepted any more. Who is connected stays, but for those who showed a certificate."""
        self._accepting.cancel()
        self._listening.close()
        self.renew(None)

    def renew(self, context: ssl.SSLContext | None) -> None:
        """From now on clients are judged by this one."""
        self.context = context
        for connection in self._connected:
            connection.judge()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _address = await loop.sock_accept(self._listening)
            except OSError:  # the client is gone already, or no more files may be opened
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._clients) >= self._most:
                client.close()
                continue
            self._clients.add(client)
            task = loop.create_task(self._begin(client, self.context))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, client: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        settings: dict[str, Any] = {**LIMITS, "access_log": None}
        limits: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE} if context is not None else {}

        def protocol() -> Guarded:
            inner = Discreet(self._server, loop=loop, **settings)
            connection = Guarded(inner, lambda: self._clients.discard(client), lambda: self.context)
            self._connected.add(connection)
            return connection

        try:
            client.setblocking(False)
            await loop.connect_accepted_socket(protocol, client, **limits)
        except OSError:  # no handshake; ssl.SSLError is one. The socket is the transport's, which closes it
            self._clients.discard(client)


async def bind(host: str | None, port: int) -> list[socket.socket]:
    """A socket on each address that ``host`` has, None for all of this host. Clients wait there for a :class:`Listener`. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    for family, _kind, _protocol, _name, address in sorted(set(found)):
        try:
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY and len(set(found)) > 1:
                continue  # a host without IPv6
            for other in bound:
                other.close()
            raise
        listening.setblocking(False)
        bound.append(listening)
    if not bound:
        raise OSError(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: {host or '*'}:{port}")
    return bound


def served(request: web.Request) -> None:
    """Call it for each request that has come whole."""
    protocol = request.transport.get_protocol() if request.transport is not None else None  # None: the client is gone
    if isinstance(protocol, Guarded):
        protocol.served()
