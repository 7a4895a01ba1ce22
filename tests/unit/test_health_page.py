# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of the health service, with plain values: what it says, to whom, and that names of others stay text."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.status import TokenStatus
from keyfleet_gateway import advice
from keyfleet_gateway.board import Board
from keyfleet_gateway.config import parse_config
from keyfleet_gateway.keys import Facts
from keyfleet_gateway.known import Certificates, Compared, Known, Member
from keyfleet_gateway.metrics import Metrics
from keyfleet_gateway.page import Page
from keyfleet_gateway.view import BAD, GOOD, MOST_ROWS, WARN, View, plain, span, view
from keyfleet_gateway.web import Site, application

NOW, WALL, DAY = 5000.0, 1_800_000_000.0, 86_400.0
TOKEN = b"canary-token-of-the-page"
PIN_FILE = "/etc/keyfleet/pins/canary"
CONFIG = parse_config(
    {
        "state": "/s",
        "http": {"listen": ["*:1"]},
        "instances": [
            {"name": "primary", "model": "softhsm2", "tokens": [{"label": "payments", "pin_file": PIN_FILE}]},
            {"name": "standby", "model": "softhsm2", "tokens": [{"label": "spare", "login": False}]},
        ],
    }
)
BOTH = (("primary", "payments"), ("standby", "spare"))
HOSTILE = "<script>alert('x')</script>\u202e\"\n{{ 7777 * 7777 }}&amp;" + "W" * 300


def slot(label: str | None, code: str | None = None, **fields: Any) -> dict[str, Any]:
    told = TokenStatus(slot_id=7, label=label, serial="a1", accessible=code is None, code=code, error=fields.pop("error", code))
    return {**told.as_slot(), "pin_state": "ok", **fields}


def known(*, at: float = NOW) -> Known:
    board = Board.of(CONFIG.instances, 60)
    board.note("primary", [slot("payments")], now=at - 9, took=0.5)
    board.note("standby", [slot("spare")], now=at - 8, took=0.5)
    return Known(board, Facts(readable=True))


def seen(what: Known) -> View:
    return view(what, now=NOW, wall=WALL)


def html(what: Known) -> str:
    return Page().whole(seen(what), 30)


def test_all_is_well() -> None:
    page = seen(known())
    assert (page.healthy, page.verdict, page.tasks) == (True, "2 tokens, all healthy", ())
    first, second = page.instances
    assert (first.name, first.prefix, first.probed) == ("primary", "hsm::softhsm2", "2027-01-15 07:59:51 UTC, 9 s ago; it took 0.5 s")
    token = first.tokens[0]
    assert (token.name, token.slot, token.serial, token.state, token.tone, token.pin, token.error) == (
        *("payments", "7", "a1", "Healthy", GOOD, "In order", None),
    )
    assert second.tokens[0].pin == "No login"
    text = html(known())
    assert "Nothing." in text and "No keys are recorded." in text and "Not all tokens have been read yet" in text
    what = known()
    what.certificates = {name: Certificates(NOW, [[]], [None]) for name in what.board.entries}
    assert "None were found on the tokens." in html(what)


def test_slot_that_is_down_and_one_that_was() -> None:
    what = known()
    for moment in (NOW - 5, NOW - 3):
        what.board.note(
            "standby", [slot(None, "CKR_DEVICE_ERROR", error="C_Login: CKR_DEVICE_ERROR", device_fault=True)], now=moment, took=1
        )
    what.board.note("primary", [slot("payments", "CKR_DEVICE_REMOVED", device_fault=True)], now=NOW - 4, took=1)
    what.board.note("primary", [slot("payments")], now=NOW - 2, took=1)
    page = seen(what)
    assert (page.healthy, page.verdict) == (False, "1 of 2 tokens not healthy")
    back, down = page.instances[0].tokens[0], page.instances[1].tokens[0]
    assert back.state == "Healthy" and back.error is not None and back.error.over and back.error.advice == ""
    assert (down.name, down.state, down.tone) == ("spare", "Not healthy", BAD)
    assert down.error is not None and not down.error.over
    assert (down.error.since[-12:], down.error.last[-12:]) == ("07:59:55 UTC", "07:59:57 UTC")
    (task,) = page.tasks
    assert task.what == "Token spare of instance standby is not healthy" and task.error == "C_Login: CKR_DEVICE_ERROR" and task.how


def test_callers_mistake_old_answer_and_none_yet() -> None:
    what = known()
    what.board.note("primary", [slot("payments", "pin_count_low", pin_state="low")], now=NOW - 1, took=1)
    token = seen(what).instances[0].tokens[0]
    assert (token.state, token.tone, token.pin_tone) == ("Counts as healthy, could not be probed", WARN, WARN)
    assert seen(what).tasks[0].tone == WARN and seen(what).healthy
    old = view(what, now=NOW + 600, wall=WALL)
    assert [one.tokens[0].state for one in old.instances] == ["No recent answer"] * 2 and not old.healthy and len(old.tasks) == 2
    fresh = seen(Known(Board.of(CONFIG.instances, 60)))
    assert [one.tokens[0].state for one in fresh.instances] == ["Not probed yet"] * 2 and fresh.tasks == () and not fresh.healthy
    assert "has no copy of the registry" in html(Known(Board.of(CONFIG.instances, 60)))


def test_what_is_due_comes_first() -> None:
    what = known()
    what.facts = Facts(
        {("primary", "payments", "AES", "deactivated"): 2, ("primary", "payments", "AES", "active"): 5000},
        {("primary", "payments"): WALL - 400 * DAY},
        {("primary", "", f"key{number:04}"): WALL + (number - 1.5) * DAY for number in range(5000)},
        {"cards": BOTH, "later": BOTH},
        True,
        WALL - 90,
    )
    what.certificates["primary"] = Certificates(NOW, [[{"label": "web", "id": "01", "end": WALL + 10.5 * DAY}]], [None])
    what.certificate_end = WALL - DAY
    what.groups["cards"] = Compared(
        NOW - 60, (Member("primary", "payments", 1), Member("standby", "spare", None, "it is away")), 12, ("a", "b")
    )
    page = seen(what)
    assert page.count == 5002 and [row.counts for row in page.keys] == ["5000 active, 2 deactivated"]
    assert page.oldest == (("payments on primary", "400 d"),)
    assert (len(page.rotations.rows), page.rotations.more) == (MOST_ROWS, 5000 - MOST_ROWS)
    assert [(due.name, due.left, due.tone) for due in page.rotations.rows[:3]] == [
        ("key0000", "overdue by 36 h", BAD),
        ("key0001", "overdue by 12 h", BAD),
        ("key0002", "12 h", WARN),
    ]
    assert [due.name for due in page.certificates.rows] == ["TLS certificate of this gateway", "web"]
    assert [task.what for task in page.tasks] == [
        "Rotation overdue: key0000, key0001",
        "Certificate has ended: TLS certificate of this gateway",
        "To be rotated within 30 days: key0002, key0003, key0004 and 27 more",
        "Certificate ends within 30 days: web",
        "The members of group cards disagree on 12 keys",
    ]
    group, later = page.groups
    assert later.compared.startswith("Not compared yet") and later.members == ()
    assert group.labels == "a, b and 10 more"
    assert [member.state for member in group.members] == ["Disagrees on 1 key", "Could not be read: it is away"]
    assert page.copied == "2027-01-15 07:58:30 UTC, 90 s ago" and page.copied in html(what)
    old = view(what, now=NOW, wall=WALL + 1800)
    assert [task.what for task in old.tasks if "copy" in task.what] == ["The copy of the registry is 31 min old"]
    assert len(html(what)) < 40_000, "the page of 5,000 keys is no longer than that of 50"


class Reader(HTMLParser):
    """Tags and texts. ``names`` are the ids that elements are labelled by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_hostile_names_stay_text() -> None:
    what = known()
    what.board.note("primary", [slot(HOSTILE, "CKR_GENERAL_ERROR", error=HOSTILE * 9, serial=HOSTILE)], now=NOW - 1, took=1)
    what.facts = Facts({(HOSTILE,) * 4: 1}, {(HOSTILE, HOSTILE): 1.0}, {(HOSTILE, "", HOSTILE): 1e300}, {}, True)
    what.certificates["primary"] = Certificates(NOW, [[{"label": HOSTILE, "id": "01", "end": -1e300}]], [HOSTILE])
    what.groups[HOSTILE] = Compared(NOW, (Member(HOSTILE, HOSTILE, None, HOSTILE),), 1, (HOSTILE,), HOSTILE)
    text = html(what)
    read = Reader(text)
    assert read.all("script") == [] and "\u202e" not in text and "60481729" not in "".join(read.texts)
    assert {attribute for _tag, attributes in read.tags for attribute in attributes if attribute.startswith("on")} == set()
    assert "".join(read.texts).count("<script>alert('x')</script>\\u202e\"\\n{{ 7777 * 7777 }}&amp;W") >= 12
    assert plain("a\u202eb\x00\u00e9") == "a\\u202eb\\x00\u00e9" and span(90) == "90 s"


def test_markup_for_those_who_do_not_see_it() -> None:
    what = known()
    what.facts = Facts({("primary", "payments", "AES", "active"): 1}, {}, {("primary", "", "a"): WALL}, {}, True)
    what.groups["cards"] = Compared(NOW, (Member("primary", "payments", 0),))
    read = Reader(html(what))
    assert [len(read.all(tag)) for tag in ("main", "header", "footer", "h1", "title")] == [1] * 5
    assert read.all("html")[0]["lang"] == "en"
    ids = {attributes["id"] for _tag, attributes in read.tags if "id" in attributes}
    labelled = {attributes["aria-labelledby"] for _tag, attributes in read.tags if "aria-labelledby" in attributes}
    assert labelled <= ids and len(labelled) >= 7
    assert {header.get("scope") for header in read.all("th")} == {"col", "row"}
    assert len(read.all("table")) == len(read.all("caption")) == 5
    # Nothing comes from elsewhere, and every link stays on this host.
    assert [tag for tag, attributes in read.tags if "src" in attributes] == []
    assert {link["href"] for link in read.all("link")} == {"data:,"}
    assert {link["href"] for link in read.all("a")} == {"/?refresh=off", "/health", "/hsm/status", "/metrics"}


def site(what: Known, token: bytes | None = TOKEN) -> Site:
    return Site(what, CONFIG, Metrics(what), Page(), token)


def ask(asked: Site, path: str, authorization: str = "", *, peer: str = "127.0.0.1") -> web.StreamResponse:
    """The answer of the service's own application to a client at that address, without TLS."""
    transport = mock.Mock()
    transport.get_extra_info = {"peername": (peer, 1)}.get
    app = application(lambda: asked)
    request = make_mocked_request("GET", path, {"Authorization": authorization} if authorization else {}, app=app, transport=transport)
    app.freeze()

    async def answer() -> web.StreamResponse:
        try:
            return await app._handle(request)
        except web.HTTPException as refusal:
            return refusal

    return asyncio.run(answer())


def basic(password: bytes) -> str:
    return "Basic " + base64.b64encode(b"any:" + password).decode()


def text_of(response: web.StreamResponse) -> str:
    assert isinstance(response, web.Response) and response.text is not None
    return response.text


BEARER = f"Bearer {TOKEN.decode()}"


def test_nobody_sees_what_the_status_refuses() -> None:
    what = known(at=time.monotonic())
    wrong = ["", "Bearer x", "Bearer", basic(b"x"), "Basic !", "Basic " + base64.b64encode(TOKEN).decode(), "é", f"Digest {TOKEN.decode()}"]
    for authorization in wrong:
        told = text_of(ask(site(what), "/", authorization))
        assert "Healthy" in told and not re.search("primary|standby|payments|spare|softhsm|a1<", told), authorization
        assert ask(site(what), "/hsm/status", authorization).status == 401
    for authorization in (BEARER, basic(TOKEN)):
        assert "payments" in text_of(ask(site(what), "/", authorization))
        assert ask(site(what), "/hsm/status", authorization).status == 200
        # On a network the token would have been read by others.
        away = ask(site(what), "/", authorization, peer="192.0.2.1")
        assert "payments" not in text_of(away) and "/login" not in text_of(away)
    assert "payments" not in text_of(ask(site(what, None), "/", basic(b"")))
    what.board.note("primary", [slot("payments", "no_token")], now=time.monotonic(), took=1)
    assert "Not healthy" in text_of(ask(site(what), "/")) and "no_token" not in text_of(ask(site(what), "/"))


def test_login_of_a_browser() -> None:
    what = site(known(at=time.monotonic()))
    assert "/login" in text_of(ask(what, "/"))
    asked = ask(what, "/login")
    assert asked.status == 401 and asked.headers["WWW-Authenticate"].startswith("Basic ")
    done = ask(what, "/login", basic(TOKEN))
    assert (done.status, done.headers["Location"]) == (303, "/")
    # Where the browser would send the token in the clear, it is not asked for it.
    assert [ask(what, "/login", peer="192.0.2.1").status, ask(site(what.known, None), "/login").status] == [403, 403]


def test_headers() -> None:
    what = site(known(at=time.monotonic()))
    for authorization in ("", BEARER):
        answer = ask(what, "/", authorization)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
        assert (answer.headers["Refresh"], answer.headers["Cache-Control"]) == ("30", "no-store")
        assert TOKEN.decode() not in text_of(answer) and PIN_FILE not in text_of(answer)
        still = ask(what, "/?refresh=off", authorization)
        assert "Refresh" not in still.headers and 'href="/"' in text_of(still)


def test_each_code_that_has_advice_is_on_the_page_of_codes() -> None:
    codes = (Path(__file__).resolve().parents[2] / "docs" / "failure_codes.md").read_text()
    assert [code for code in advice._ADVICE if f"`{code}`" not in codes] == []


@pytest.mark.parametrize("code", ["CKR_DEVICE_REMOVED", "CKR_ARGUMENTS_BAD", "something_new"])
def test_other_codes_have_advice_too(code: str) -> None:
    assert advice.advice(code)
    assert advice.advice(None) == ""
