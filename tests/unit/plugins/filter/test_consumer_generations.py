# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which generation of its key a service uses, by its certificate, from plain values. What nobody knows is never guessed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.consumer_generations import consumer_generations

FOLDER = "/etc/keyfleet-consumers/web"
KEY = {"name": "tls", "follows": "web", "certificate": "/srv/web.pem"}
WEB: dict[str, Any] = {"name": "web", "folder": FOLDER, "keys": [KEY, {"name": "b", "follows": "", "certificate": "/srv/b.pem"}]}


def public(label: str, fingerprint: str | None, **more: Any) -> dict[str, Any]:
    return {"class": "public", "label": label, "fingerprint": fingerprint, "code": None, **more}


def private(label: str) -> dict[str, Any]:
    return {"class": "private", "label": label, "code": None}


DOUBT = "the token has more generations of it than are shown, or one cannot be read. Give the label of the generation, without generation."
BOTH = [public("web", "11"), public("web@2", "22"), private("web"), private("web@2")]


def look(*objects: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"item": {"names": ["shell", "web"]}, "login": True, "left_off": [], "objects": list(objects), **more}


def followed(answer: dict[str, Any], fingerprint: str = "22", **more: Any) -> dict[str, Any]:
    return consumer_generations([WEB], [{**look(), "item": {"names": ["other"]}}, answer], {"/srv/web.pem": fingerprint}, **more)


@pytest.mark.parametrize(("fingerprint", "label"), [("11", "web"), ("22", "web@2")])
def test_the_certificate_tells_the_generation(fingerprint: str, label: str) -> None:
    wanted = {"current": {"web": {"tls": label}}, "unseen": [], "problems": []}
    assert followed(look(*BOTH), fingerprint) == wanted
    # Public keys that were seen without a login, and what matters to nobody here.
    assert followed(look(*BOTH[:2], login=False, problems=[{"step": "capabilities"}]), fingerprint) == wanted


@pytest.mark.parametrize(
    ("objects", "fingerprint", "said"),
    [
        (
            BOTH,
            "33",
            "the certificate in /srv/web.pem matches no generation of web on the token. Public keys of it there: web, web@2. Give the",
        ),
        ([], "22", "the certificate in /srv/web.pem matches no generation of web on the token. Public keys of it there: none."),
        ([public("web@2", "22")], "22", "the token has no private key web@2, which the certificate in /srv/web.pem is of. Nothing"),
        (
            [*BOTH, public("web@3", None)],
            "33",
            "the token does not give the public key of web@3: give the label of one, without generation",
        ),
        (
            [public("web@2", "22"), public("web@3", "22")],
            "22",
            "the certificate in /srv/web.pem is that of web@2 and web@3: give the label of one, without generation",
        ),
        # Another key's, whatever it is called.
        (
            [public("webs", "22"), public("web@02", "22")],
            "22",
            "the certificate in /srv/web.pem matches no generation of web on the token. Public",
        ),
    ],
)
def test_what_is_refused(objects: list[dict[str, Any]], fingerprint: str, said: str) -> None:
    found = followed(look(*objects), fingerprint)
    assert found == followed(look(*objects), fingerprint, preview=True)
    assert found["current"] == {} and found["unseen"] == []
    [problem] = found["problems"]
    assert problem.startswith(f"client_consumers: web: keys: web: {said}")


@pytest.mark.parametrize(
    "answer",
    [
        {"item": {"names": ["web"]}, "failed": False, "msg": "the library cannot be loaded"},
        look(*BOTH, left_off=["objects"]),
        look(*BOTH, {"class": None, "code": "device_error"}),
        look(*BOTH, problems=[{"step": "objects"}]),
        # Perhaps it shows public keys after a login only, or some of them.
        look(login=False),
        look(public("web", "11"), {"class": "certificate", "label": "web", "code": None}, login=False),
    ],
)
def test_where_nobody_knows_a_preview_shows_it_as_it_is_and_a_run_refuses(answer: dict[str, Any]) -> None:
    def after(*lines: str) -> Any:
        texts = {f"{FOLDER}/keys": "# Written by the role.\n" + "\n".join(lines)}
        refused = followed(answer, texts=texts)
        assert (refused["current"], refused["unseen"]) == ({}, [])
        assert refused["problems"] == [f"client_consumers: web: keys: web: {DOUBT}"]
        found = followed(answer, texts=texts, preview=True)
        assert (found["unseen"], found["problems"]) == (["web: web"], [])
        return found["current"]["web"]["tls"]

    assert after("KEYS='b=pkcs11:token=t;object=b;type=private tls=pkcs11:token=t;object=web%402;type=private'") == "web@2"
    assert after("KEYS='tls=pkcs11:token=t;object=another;type=private'") == "web"
    assert after("KEYS='tls=pkcs11:tok") == after() == "web"


def test_a_certificate_that_could_not_be_read_matches_nothing() -> None:
    assert followed(look(*BOTH, public("web@3", "")), "", preview=True)["unseen"] == ["web: web"]


def test_input_that_is_none() -> None:
    with pytest.raises(AnsibleFilterError, match="give the consumers of consumer_plan"):
        consumer_generations("web", [], {})
