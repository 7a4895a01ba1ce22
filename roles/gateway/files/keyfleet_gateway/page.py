# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page that people read, as HTML. It needs no script, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import socket
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from .view import View, plain

_PACKAGE = __package__ or "keyfleet_gateway"
_NOTHING_ELSE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Page:
    """Holds no state but the templates."""

    def __init__(self) -> None:
        style = (files(_PACKAGE) / "templates" / "page.css").read_text(encoding="utf-8")
        self._templates = Environment(
            loader=PackageLoader(_PACKAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.globals.update(style=style, host=plain(socket.gethostname()))
        digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
        self.headers = {
            # The one style that counts is the page's own; img-src is for the empty icon, for which a browser would ask otherwise.
            "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; {_NOTHING_ELSE}",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def whole(self, view: View, refresh: int | None) -> str:
        """For who may see the status. ``refresh``: seconds until the browser asks again, None where it does not."""
        return self._templates.get_template("page.html.j2").render(view=view, refresh=refresh)

    def closed(self, *, healthy: bool, refresh: int | None, login: bool) -> str:
        """For everybody: what ``/health`` says. ``login``: whether a browser can log in."""
        return self._templates.get_template("closed.html.j2").render(healthy=healthy, refresh=refresh, login=login)
