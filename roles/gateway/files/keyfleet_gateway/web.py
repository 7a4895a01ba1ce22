# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses that the service answers. Each answer is what the probes found: no request reaches an HSM."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from .config import Config
from .connections import served
from .known import Known
from .metrics import CONTENT_TYPE, Metrics
from .page import Page
from .view import view

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HEADERS = {"Cache-Control": "no-store"}
_FASTEST, _SLOWEST = 10, 60  # seconds between two renewals of the page


@dataclass
class Site:
    """What the handlers answer from; the service exchanges it when it is reloaded. ``token`` is the bearer token, None for none."""

    known: Known
    config: Config
    metrics: Metrics
    page: Page
    token: bytes | None

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(status=204 if self.known.board.healthy(time.monotonic()) else 500, headers=_HEADERS)

    async def status(self, request: web.Request) -> web.Response:
        self.require_login(request)
        return web.json_response(self.known.board.status(time.monotonic()), headers=_HEADERS)

    async def show_metrics(self, request: web.Request) -> web.Response:
        if self.config.metrics_login:
            self.require_login(request)
        return web.Response(body=self.metrics.text(), headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    async def show_page(self, request: web.Request) -> web.Response:
        """Who may not see the status sees what ``/health`` says."""
        refresh = None if request.query.get("refresh") == "off" else min(max(self.config.interval, _FASTEST), _SLOWEST)
        now = time.monotonic()
        if self.is_known(request):
            text = self.page.whole(view(self.known, now=now, wall=time.time()), refresh)
        else:
            text = self.page.closed(healthy=self.known.board.healthy(now), refresh=refresh, login=self._may_log_in(request))
        renewal = {} if refresh is None else {"Refresh": str(refresh)}
        return web.Response(text=text, content_type="text/html", headers={**_HEADERS, **self.page.headers, **renewal})

    async def log_in(self, request: web.Request) -> web.Response:
        """Has a browser ask for the token. Where that would cross a network in the clear nobody is asked for it."""
        if self.is_known(request):
            raise web.HTTPSeeOther("/", headers=_HEADERS)
        if not self._may_log_in(request):
            raise web.HTTPForbidden(text="", headers=_HEADERS)
        raise web.HTTPUnauthorized(text="", headers={**_HEADERS, "WWW-Authenticate": 'Basic realm="keyfleet-gateway", charset="UTF-8"'})

    def is_known(self, request: web.Request) -> bool:
        """Whether the client has shown a certificate that is known, or the token."""
        names = self.config.https.client_names if self.config.https else ()
        return has_certificate(request, names) or self._has_token(request)

    def require_login(self, request: web.Request) -> None:
        """Raises 401 for a client that is not known."""
        if not self.is_known(request):
            raise web.HTTPUnauthorized(text="", headers={**_HEADERS, "WWW-Authenticate": "Bearer"})

    def _may_log_in(self, request: web.Request) -> bool:
        """A token that crosses a network in the clear is a secret no longer: without TLS it counts on this host only."""
        return self.token is not None and (_is_tls(request) or _is_local(request))

    def _has_token(self, request: web.Request) -> bool:
        if self.token is None or not self._may_log_in(request):
            return False
        given = _given_token(request.headers.get("Authorization", ""))
        return given is not None and hmac.compare_digest(given, self.token)


def _given_token(authorization: str) -> bytes | None:
    """As a program gives it (Bearer, RFC 6750), or a browser (Basic, RFC 7617: the password, with any user name)."""
    scheme, _blank, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            _user, colon, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        return password if colon else None
    return None


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


_ANSWERS = {
    "/": Site.show_page,
    "/login": Site.log_in,
    "/health": Site.health,
    "/hsm/status": Site.status,
    "/metrics": Site.show_metrics,
}


def application(site: Callable[[], Site]) -> web.Application:
    """``site`` gives the one that is in force."""

    def answering(method: Callable[[Site, web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await method(site(), request)

        return handler

    @web.middleware
    async def whole_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        served(request)
        return await handler(request)

    async def anonymous(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "keyfleet-gateway"  # and no versions

    app = web.Application(middlewares=[whole_request], client_max_size=1024)
    app.on_response_prepare.append(anonymous)
    for path, method in _ANSWERS.items():
        app.router.add_get(path, answering(method))
    return app
