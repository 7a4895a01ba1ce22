# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses that the service answers. Each answer is what the probes found: no request reaches an HSM."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from .board import Board
from .config import Config
from .connections import served
from .metrics import CONTENT_TYPE, Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HEADERS = {"Cache-Control": "no-store"}


@dataclass
class Site:
    """What the handlers answer from; the service exchanges it when it is reloaded. ``token`` is the bearer token, None for none."""

    board: Board
    config: Config
    metrics: Metrics
    token: bytes | None

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(status=204 if self.board.healthy(time.monotonic()) else 500, headers=_HEADERS)

    async def status(self, request: web.Request) -> web.Response:
        self.require_login(request)
        return web.json_response(self.board.status(time.monotonic()), headers=_HEADERS)

    async def show_metrics(self, request: web.Request) -> web.Response:
        if self.config.metrics_login:
            self.require_login(request)
        return web.Response(body=self.metrics.text(), headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    def require_login(self, request: web.Request) -> None:
        """Raises 401 without a client certificate that is known or the bearer token."""
        names = self.config.https.client_names if self.config.https else ()
        if not (has_certificate(request, names) or self._has_token(request)):
            raise web.HTTPUnauthorized(text="", headers={**_HEADERS, "WWW-Authenticate": "Bearer"})

    def _has_token(self, request: web.Request) -> bool:
        """A token that crosses a network in the clear is a secret no longer: without TLS it counts on this host only."""
        scheme, _blank, given = request.headers.get("Authorization", "").partition(" ")
        if self.token is None or scheme.lower() != "bearer" or not (_is_tls(request) or _is_local(request)):
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token)


def _is_tls(request: web.Request) -> bool:
    return request.transport is not None and request.transport.get_extra_info("ssl_object") is not None


def _is_local(request: web.Request) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0]) if peer else None
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped is not None and mapped.is_loopback


def has_certificate(request: web.Request, names: tuple[str, ...]) -> bool:
    """Whether the client has shown a certificate (which TLS has checked) with one of ``names``, or any where there are none."""
    connection = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    if not isinstance(connection, (ssl.SSLObject, ssl.SSLSocket)):
        return False
    certificate = connection.getpeercert()
    return bool(certificate) and (not names or not names_of(dict(certificate or {})).isdisjoint(names))


def names_of(certificate: dict[str, object]) -> set[str]:
    """Common names and DNS names of a certificate as the ssl module describes it."""
    subject, alternative = certificate.get("subject", ()), certificate.get("subjectAltName", ())
    found = set()
    if isinstance(subject, tuple):
        found |= {str(value) for part in subject for name, value in part if name == "commonName"}
    if isinstance(alternative, tuple):
        found |= {str(value) for kind, value in alternative if kind == "DNS"}
    return found


def application(site: Callable[[], Site]) -> web.Application:
    """``site`` gives the one that is in force."""

    @web.middleware
    async def whole_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        served(request)
        return await handler(request)

    async def anonymous(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "keyfleet-gateway"  # and no versions

    app = web.Application(middlewares=[whole_request], client_max_size=1024)
    app.on_response_prepare.append(anonymous)
    app.router.add_get("/health", lambda request: site().health(request))
    app.router.add_get("/hsm/status", lambda request: site().status(request))
    app.router.add_get("/metrics", lambda request: site().show_metrics(request))
    return app
