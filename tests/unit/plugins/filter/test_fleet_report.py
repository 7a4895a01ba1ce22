# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fleet from plain values: what is found, what a page may hold, and how large it gets."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.fleet_report import fleet_report
from ansible_collections.keyfleet.hsm.plugins.filter.site_findings import site_findings
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.charts import WIDTH, by_age, chart
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.fleet.findings import KINDS
from made_up_fleet import NOW, found, key, made_up, moment, slot

AT = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}\u202e"
DECLARED: dict[str, Any] = {"problems": [], "keys": [], "certificates": [], "declared": {"instances": [], "groups": []}}


def report(look: Any, groups: Any = (), instances: Any = (), declared: Any = None, **options: Any) -> dict[str, Any]:
    """Of one host."""
    wanted = DECLARED if declared is None else {**DECLARED, **declared}
    return fleet_report(["h1"], [look], [{"results": list(groups)}], [{"results": list(instances)}], [wanted], AT, **options)


def told(*args: Any, **options: Any) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["what"], one["text"]) for one in report(*args, **options)["document"]["findings"]]


class Page(HTMLParser):
    """Elements, attributes and text, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {"style": "", "script": "", "": ""}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in self.text else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        self.text[self._inside] += data


def test_a_host_that_is_well_has_nothing_to_do() -> None:
    made = report(found(slot("payments"), keys=[key("dek-1", 40)]))
    assert made["document"]["findings"] == [] and made["document"]["summary"]["states"]["good"] == 1
    assert "Nothing is to be done today" in made["page"] and "To do</h2>" not in made["page"]


@pytest.mark.parametrize(
    ("look", "finding"),
    [
        ({}, ("unreachable", "", "the host was not asked")),
        ({"unreachable": True, "msg": "no route"}, ("unreachable", "", "no route")),
        ({"failed": True, "msg": "the registry cannot be read"}, ("not_looked", "", "the registry cannot be read")),
        ({"failed": False}, ("not_looked", "", "the look gave no answer")),
        (found(), ("absent", "", "no token is registered")),
        (found(slot("t", accessible=False, code="pin_count_low", error="low")), ("pin", "primary/t", "low")),
        (found(slot("t", accessible=False, code="no_token", error="gone")), ("token", "primary/t", "gone")),
        (
            found(slot("t", certificates=[{"label": "web", "id": "01", "not_after": moment(-2)}])),
            ("certificate_ended", "primary/t: web", "2 days ago"),
        ),
        (
            found(slot("t", certificates=[{"label": "web", "id": "01", "not_after": moment(9)}])),
            ("certificate_due", "primary/t: web", "9 days left"),
        ),
        (found(slot("t"), undeclared={"instances": ["old"], "tokens": [], "groups": []}), ("undeclared", "instance old", "")),
    ],
)
def test_what_a_look_tells(look: Any, finding: tuple[str, str, str]) -> None:
    assert told(look) == [finding]


def test_rotations_go_by_the_newest_active_generation() -> None:
    keys = [key("dek", 100), key("dek", 30, generation=2), key("dek", 1, generation=3, state="deactivated")]
    keys += [key("shared", 50, group="cards"), key("old", 80)]
    wanted = [
        {"instance": "primary", "group": None, "label": "dek", "state": "present", "max_age": 40 * 86400},
        {"instance": None, "group": "cards", "label": "shared", "state": "present", "max_age": 49 * 86400},
        {"instance": "primary", "group": None, "label": "old", "state": "present", "max_age": None},
        {"instance": "primary", "group": None, "label": "new", "state": "present", "max_age": None},
    ]
    look = found(slot("t"), keys=keys)
    assert told(look, declared={"keys": wanted}) == [
        ("rotation_overdue", "group cards: shared", "1 days ago"),
        ("rotation_due", "primary: dek", "10 days left"),
        ("absent", "primary: new", ""),
    ]
    assert [kind for kind, _what, _text in told(look, declared={"keys": wanted}, due="5d")] == ["rotation_overdue", "absent"]
    early = [{**wanted[0], "lead": 11 * 86400}]
    assert told(look, declared={"keys": early}) == [("rotation_overdue", "primary: dek", "1 days ago")]
    document = report(look, declared={"keys": wanted})["document"]
    assert [(one["what"], one["days_left"]) for one in document["due"]] == [("group cards: shared", -1.0), ("primary: dek", 10.0)]
    assert document["hosts"][0]["oldest_active_key_days"] == 100


def test_a_range_is_each_of_its_keys() -> None:
    declared = {
        "hsm_instances": [{"name": "primary"}],
        "hsm_keys": [
            {
                "instance": "primary",
                "keys": [
                    {"label": "dek-[1:3]", "type": "AES", "max_age": "1d"},
                    {"label": "old-[a:b]@2", "type": "AES"},
                    {"label": "its[1:2]", "type": "AES", "id": "07"},
                    {"label": "x[2:1]", "type": "AES"},
                    {"label": "x[1:999999999]", "type": "AES"},
                ],
            }
        ],
    }
    keys = [key("dek-1", 9), key("dek-1", 2, generation=2), key("dek-2", 4), key("old-a", 1, generation=2), key("its[1:2]", 1)]
    assert told(found(slot("t"), keys=keys), declared={"keys": site_findings(declared, [])["keys"]}) == [
        ("rotation_overdue", "primary: dek-2", "3 days ago"),
        ("rotation_overdue", "primary: dek-1", "1 days ago"),
        ("absent", "primary: dek-3", ""),
        ("absent", "primary: old-b@2", ""),
        # What hsm_key refuses is shown as it was written.
        ("absent", "primary: x[2:1]", ""),
        ("absent", "primary: x[1:999999999]", ""),
    ]


def test_certificates_go_by_what_ends_last_of_a_key() -> None:
    """Of its generations, too; and a declared renew_before counts in the place of ours."""
    held = [
        {"label": label, "id": key_id, "not_after": moment(days)}
        for label, key_id, days in (("a", "01", -5), ("a", "01", 50), ("a", "02", 20))
    ]
    look = found(slot("t", certificates=held))
    assert told(look) == [("certificate_due", "primary/t: a", "20 days left")]
    assert told(look, declared={"certificates": [{"key_label": "a", "renew_before": "60d"}]}) == [
        ("certificate_due", "primary/t: a", "20 days left"),
        ("certificate_due", "primary/t: a", "50 days left"),
    ]
    turned = [{"label": "a", "id": "01", "not_after": moment(-5)}, {"label": "a@2", "id": "02", "not_after": moment(50)}]
    assert told(found(slot("t", certificates=turned), keys=[key("a", 1), key("a", 1, generation=2)])) == []
    assert [kind for kind, _what, _text in told(found(slot("t", certificates=turned)))] == ["certificate_ended"]
    # What is called as a generation and is none lasts for itself alone.
    other = [{**turned[1], "not_after": moment(9)}, {"label": "a@7", "id": "07", "not_after": moment(50)}]
    look = found(slot("t", certificates=other), keys=[key("a", 1), key("a", 1, generation=2), key("a@7", 1)])
    assert told(look) == [("certificate_due", "primary/t: a", "9 days left")]


def test_what_a_comparison_tells_once() -> None:
    lacks = {"label": "dek", "lack": [{"instance": "standby"}], "unknown": [{"instance": "archive"}]}
    weak = [{"token": "token 't'", "label": "transport", "exposes": [{"label": "dek"}]}]
    drift = [
        {"uid": "u::a", "field": "operations", "virtual": ["sign"], "hsm": []},
        {"uid": "u::b", "field": "fingerprint", "virtual": "0f", "hsm": "1e"},
    ]
    group = {"item": {"name": "cards"}, "members": [lacks], "unread": [{"instance": "third", "error": "away"}], "weak": weak}
    one = {"item": "primary", "weak": weak, "missing": ["u::gone"], "added": ["u::new"], "drift": drift}
    failed = {"item": "standby", "failed": True, "msg": "a library hangs"}
    left = {"item": {"name": "rest"}, "skipped": True}
    assert told(found(slot("t")), [group, left], [one, failed]) == [
        ("missing", "u::gone", ""),
        ("exchanged", "u::b", "fingerprint: recorded 0f, the HSM has 1e"),
        ("not_covered", "group cards: dek", "standby lacks it; archive cannot be compared"),
        ("not_compared", "group cards, member third", "away"),
        ("not_compared", "group rest", "a token of it cannot be used"),
        ("not_compared", "instance standby", "a library hangs"),
        ("weak", "token 't': transport", "gives away dek"),
        ("unrecorded", "u::new", ""),
        ("differs", "u::a", "operations: recorded sign, the HSM has "),
    ]


def test_names_of_others_are_text_and_secrets_stay_out() -> None:
    """Also where a field that nobody should have put there holds one."""
    pin = "640287315"
    keys = [key(HOSTILE, 10, group=HOSTILE, pin=pin)]
    look = found(slot(HOSTILE, accessible=False, code="x", error=HOSTILE, pin=pin), keys=keys, pin=pin, invocation={"pin": pin})
    drift = [{"uid": HOSTILE, "field": HOSTILE, "virtual": HOSTILE, "hsm": [HOSTILE]}]
    sync = {
        "item": HOSTILE,
        "drift": drift,
        "missing": [HOSTILE],
        "added": [HOSTILE],
        "weak": [{"token": HOSTILE, "label": HOSTILE}],
        "pin": pin,
    }
    group = {"item": {"name": HOSTILE}, "members": [{"label": HOSTILE, "lack": [{"instance": HOSTILE}]}], "unread": []}
    declared = {"keys": [{"instance": HOSTILE, "label": HOSTILE, "state": "present", "max_age": 1, "source": {"content": pin}}]}
    made = fleet_report([HOSTILE], [look], [{"results": [group]}], [{"results": [sync]}], [{**DECLARED, **declared}], AT)
    page = Page(made["page"])
    assert [tag for tag, _of in page.tags if tag in ("img", "iframe", "object", "form", "a")] == []
    assert sum(tag == "script" for tag, _of in page.tags) == 1 and "alert" not in page.text["script"]
    assert not [name for _tag, of in page.tags for name in of if name.startswith("on") or name == "style"]
    assert "onerror=alert" in page.text[""] and "\u202e" not in made["page"]
    assert pin not in made["page"] + json.dumps(made["document"])


def test_nothing_is_loaded_and_only_our_own_script_runs() -> None:
    page = Page(report(found(slot("t")))["page"])
    [policy] = [of["content"] or "" for tag, of in page.tags if tag == "meta" and of.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.text[name].encode()).digest()).decode()
        assert allowed[f"{name}-src"] == f"'sha256-{digest}'"
    assert not re.findall(
        r"""(?:https?:)?//[a-z]|url\(|@import""", page.text["style"].partition("*/")[2] + page.text["script"].partition("use strict")[2]
    )
    assert {of.get("src") or of.get("href") for _tag, of in page.tags} == {None, "data:,"}


def test_a_thousand_hosts_fit_on_a_page() -> None:
    """Bytes and elements are counted; how fast it opens was looked at in a browser."""
    made = fleet_report(*made_up(1000), AT)
    page = Page(made["page"])
    assert len(made["page"].encode()) < 2_000_000 and len(page.tags) < 50_000
    assert sum("data-state" in of for _tag, of in page.tags) == 1000
    summary = made["document"]["summary"]
    assert summary["hosts"] == 1000 and summary["reached"] < 1000 and summary["active_keys"] == 20 * summary["reached"]
    # Of what may be many, the page shows the first and says how many more there are.
    worse = [{**look, "undeclared": {"instances": [f"i{n}" for n in range(50)]}} for look in made_up(100)[1]]
    hosts, _looks, groups, synced, declared = made_up(100)
    assert len(fleet_report(hosts, worse, groups, synced, declared, AT)["page"].encode()) < 200_000


def test_the_order_of_hosts_does_not_matter() -> None:
    lists = made_up(30)
    turned = tuple(list(reversed(one)) for one in lists)
    assert fleet_report(*lists, AT) == fleet_report(*turned, AT)  # type: ignore[arg-type]


def test_bars_have_the_lengths_of_their_counts() -> None:
    drawn = chart([("a", 10, "good"), ("b", 5, "bad"), ("c", 0, "bad"), ("d", 1, "bad")])
    assert [one.width for one in drawn.bars] == [280, 140, 0, 28] and drawn.said == "a: 10, b: 5, c: 0, d: 1"
    assert all(one.x + one.width < WIDTH for one in drawn.bars) and len({one.y for one in drawn.bars}) == 4
    assert [one.width for one in chart([("a", 100_000, ""), ("b", 1, "")]).bars] == [280, 2]
    assert [count for _label, count, _tone in by_age([-1, 0, 29.9, 30, 89, 90, 364, 365, 800])] == [3, 2, 1, 1, 1, 1]


def test_each_kind_says_what_to_do() -> None:
    for kind in KINDS.values():
        assert kind.tone in ("bad", "warn", "note") and kind.title[0].isupper() and kind.advice.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("h", [], [], [], [], AT), "the input: is not a list"),
        ((["h"], [], [], [], [], AT), "not equally long"),
        (([], [], [], [], [], "today"), "now: is not a moment"),
        (([], [], [], [], [], AT, "soon"), "due: 'soon' is no duration"),
    ],
)
def test_input_that_is_none(arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(problem)):
        fleet_report(*arguments)
