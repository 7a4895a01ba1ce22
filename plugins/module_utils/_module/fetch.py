# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Get a page, by Ansible's own client: its proxies, certificates and ciphers are those of every other task."""

from __future__ import annotations

from .._model.errors import KeyfleetError
from .._model.quoting import one_line
from .._model.tokens.secret import Secret, mask

_LONGEST = 300  # characters of an error that a server may have written


def fetch(
    url: str,
    *,
    token: Secret | None,
    most: int,
    seconds: float,
    client_cert: str | None,
    client_key: str | None,
    ca_path: str | None,
    validate_certs: bool,
    use_proxy: bool,
) -> tuple[int, bytes]:
    """The status and the first ``most`` bytes of the answer to a GET. Follows no redirect, so a token goes to no other host.

    ``seconds`` is for each wait, and a server that writes slowly may take longer. Raises :class:`KeyfleetError` with the code
    ``gateway_unreachable``.
    """
    # Here, since every module imports this file, and few of them ask a server.
    from http.client import HTTPException
    from urllib.error import HTTPError

    from ansible.module_utils.urls import ConnectionError as FailedConnection
    from ansible.module_utils.urls import MissingModuleError, open_url

    try:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token.reveal()}"} if token else {})}
        answer = open_url(
            url,
            headers=headers,
            timeout=seconds,
            follow_redirects="none",
            use_netrc=False,
            decompress=False,
            force=True,
            client_cert=client_cert,
            client_key=client_key,
            ca_path=ca_path,
            validate_certs=validate_certs,
            use_proxy=use_proxy,
        )
        with answer:
            return int(answer.status), bytes(answer.read(most))
    except HTTPError as error:
        with error:
            return error.code, b""
    except (OSError, HTTPException, ValueError, FailedConnection, MissingModuleError) as error:
        # A server may have written a part of it.
        text = mask(f"{type(error).__name__}: {error}", {token.reveal()} if token else set())
        raise KeyfleetError(one_line(text)[:_LONGEST], code="gateway_unreachable") from None
