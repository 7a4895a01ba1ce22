# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose certificate the health service takes, and on which addresses it listens after a reload: without HSMs."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from authority import Authority, trusting
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from keyfleet_gateway.config import Config, ConfigError, Https, parse_config
from keyfleet_gateway.connections import Listener
from keyfleet_gateway.listeners import Listeners
from keyfleet_gateway.tls import context_of

INSTANCE = {"name": "a", "model": "softhsm2", "tokens": [{"label": "a", "login": False}]}


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The CA of the clients, and server.pem beside it."""
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.issue("localhost")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return authority


def context(ours: Authority, crl: Path | None = None) -> ssl.SSLContext:
    https = Https((), str(ours.folder / "server.pem"), None, str(ours.file), str(crl) if crl else None)
    return context_of(https, lambda text: text)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether the server took the client's certificate. Raises SSLError when it refuses the client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one, other):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return bool(other.getpeercert())


def test_revoked_clients(ours: Authority) -> None:
    monitor, other = ours.client("monitor"), ours.client("other")
    lists = ours.revoked("monitor")
    assert handshake(context(ours), monitor), "without a list nothing is revoked"
    assert handshake(context(ours, lists), other) and not handshake(context(ours, lists), trusting(None))
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        handshake(context(ours, lists), monitor)
    # As the front has it: a list that is out of date lets nobody in.
    with pytest.raises(ssl.SSLError, match="CRL has expired"):
        handshake(context(ours, ours.revoked(days=-1)), other)
    # A list of another CA is none of this one.
    with pytest.raises(ssl.SSLError, match="unable to get certificate CRL"):
        handshake(context(ours, Authority(ours.folder, "foreign").revoked()), other)


@pytest.mark.parametrize("content", [b"", b"nothing", b"CERTIFICATE", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_is_no_revocation_list_is_refused(ours: Authority, content: bytes) -> None:
    foreign = Authority(ours.folder, "foreign")
    lists = ours.revoked()
    # OpenSSL would take the certificate in it as one more CA.
    lists.write_bytes(lists.read_bytes() + foreign.file.read_bytes() if content == b"CERTIFICATE" else content)
    with pytest.raises(ConfigError, match=r"^https\.client_crl: .* cannot be used: "):
        context(ours, lists)


def config(*, plain: list[str], tls: list[str] | None = None) -> Config:
    own: dict[str, Any] = {"state": "/s", "http": {"listen": plain}, "instances": [INSTANCE]}
    return parse_config({**own, **({"https": {"listen": tls, "certificate": "/c"}} if tls else {})})


def ask(port: int, client: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """A connection that stays, after one answer."""
    made = (
        http.client.HTTPSConnection("localhost", port, context=client, timeout=5)
        if client
        else http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    )
    again(made)
    return made


def again(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_a_reload_has_all_addresses_or_changes_none(ours: Authority) -> None:
    first, second = free_port(), free_port()
    monitor = ours.client("monitor")

    async def hello(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="hello")

    async def become(listeners: Listeners, new: Config, tls: ssl.SSLContext | None = None) -> None:
        async with listeners.becoming(new, tls):
            pass

    def there(listeners: Listeners) -> dict[str, list[Listener]]:
        return {f"{scheme} {address}": found for (scheme, address), found in listeners._open.items()}

    async def scene() -> None:
        listeners = Listeners(web.Server(hello))
        await become(listeners, config(plain=[f"127.0.0.1:{first}"]))
        before = there(listeners)
        kept = await asyncio.to_thread(ask, first)
        with closing(socket.create_server(("127.0.0.1", second))):
            # The second is taken; the third one's port is that of the first, which has to make room for it.
            for places in ([f"127.0.0.1:{second}"], [f"127.0.0.1:{first}", f"*:{second}"], [f"*:{first}", f"127.0.0.1:{second}"]):
                with pytest.raises(OSError, match="in use"):
                    await become(listeners, config(plain=places))
                assert there(listeners).keys() == before.keys()
                (await asyncio.to_thread(ask, first)).close()
        with pytest.raises(RuntimeError):
            async with listeners.becoming(config(plain=[f"*:{first}"]), None):
                raise RuntimeError("the registry cannot be written")
        assert there(listeners).keys() == before.keys()
        # Now it is free, and nothing of the failures is left.
        await become(listeners, config(plain=[f"*:{first}"], tls=[f"127.0.0.1:{second}"]), context(ours))
        await asyncio.to_thread(again, kept)
        anybody, known = await asyncio.to_thread(ask, second, trusting(None)), await asyncio.to_thread(ask, second, monitor)
        open_now = there(listeners)
        await become(listeners, config(plain=[f"*:{first}"], tls=[f"127.0.0.1:{second}"]), context(ours, ours.revoked("monitor")))
        assert there(listeners) == open_now, "they stay open"
        await asyncio.to_thread(again, anybody)
        # A connection that stays is no way around the list.
        with pytest.raises((OSError, http.client.HTTPException)):
            await asyncio.to_thread(again, known)
        with pytest.raises(OSError):
            await asyncio.to_thread(ask, second, monitor)
        # http and https change places.
        await become(listeners, config(plain=[f"127.0.0.1:{second}"], tls=[f"127.0.0.1:{first}"]), context(ours))
        for connection in (await asyncio.to_thread(ask, second), await asyncio.to_thread(ask, first, monitor), kept, anybody, known):
            connection.close()
        listeners.close()
        await listeners.server.shutdown(1)

    asyncio.run(scene())
