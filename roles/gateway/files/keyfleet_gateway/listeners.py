# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses that the service listens on, and how they become others: all of them, or none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from .config import Address, Config
from .connections import Listener, bind
from .journal import ERROR, INFO, log

Place = tuple[str, Address]  # its scheme before it


@dataclass
class Listeners:
    """``server`` gets what clients ask."""

    server: web.Server
    _open: dict[Place, list[Listener]] = field(default_factory=dict)

    @asynccontextmanager
    async def becoming(self, config: Config, context: ssl.SSLContext | None) -> AsyncIterator[None]:
        """Have the addresses of ``config``, and begin to listen on them when the body has ended well. After an error all is as it was.

        Clients of an address that stays notice nothing, but for those whose certificate another ``context`` checked: they come again.
        Raises OSError, before the body, for an address that cannot be had.
        """
        wanted: dict[Place, ssl.SSLContext | None] = {("http", address): None for address in config.http}
        wanted |= {("https", address): context for address in (config.https.listen if config.https else ())}
        coming = [place for place in wanted if place not in self._open]
        leaving = [place for place in self._open if place not in wanted]
        # Two addresses may be one port of this host, as * and 127.0.0.1 are: it is free when the old one is closed.
        ports = {address.port for _scheme, address in coming}
        moving = {place: self._open[place][0].context for place in leaving if place[1].port in ports and place[1].port}
        bound: dict[Place, list[socket.socket]] = {}
        try:
            for place in moving:
                self._close(place)
            for place in coming:
                bound[place] = await bind(place[1].host, place[1].port)
            yield
        except BaseException:
            for listening in (one for sockets in bound.values() for one in sockets):
                listening.close()
            for place, before in moving.items():
                await self._return(place, before)
            raise
        for place in leaving:
            self._close(place)
        for place, listeners in self._open.items():
            for listener in listeners:
                listener.renew(wanted[place])
        for place, sockets in bound.items():
            self._listen(place, sockets, wanted[place])

    def _listen(self, place: Place, sockets: list[socket.socket], context: ssl.SSLContext | None) -> None:
        self._open[place] = [Listener(listening, self.server, context) for listening in sockets]
        for listener in self._open[place]:
            host, port = listener.address
            log(INFO, "listening", scheme=place[0], host=host, port=port)

    async def _return(self, place: Place, context: ssl.SSLContext | None) -> None:
        """Listen again. What cannot be had any more is bound by the next change that wants it."""
        try:
            self._listen(place, await bind(place[1].host, place[1].port), context)
        except OSError as error:
            log(ERROR, f"{place[0]} {place[1]} was given up, and cannot be had any more: {error}")

    def _close(self, place: Place) -> None:
        for listener in self._open.pop(place, []):
            listener.close()

    def close(self) -> None:
        """All of them."""
        for place in list(self._open):
            self._close(place)
