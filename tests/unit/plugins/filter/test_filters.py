# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters: rules as properties, errors by their words, and all of it through Ansible's own templating."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, datetime, time, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
import tomli_w
from ansible.errors import AnsibleFilterError
from ansible_collections.keyfleet.hsm.plugins.filter.hsm_prefixes import hsm_prefixes
from ansible_collections.keyfleet.hsm.plugins.filter.hsm_present import hsm_present
from ansible_collections.keyfleet.hsm.plugins.filter.hsm_uid import hsm_uid
from ansible_collections.keyfleet.hsm.plugins.filter.pkcs11_uri import pkcs11_uri
from ansible_collections.keyfleet.hsm.plugins.filter.sharing_hosts import sharing_hosts
from ansible_collections.keyfleet.hsm.plugins.filter.to_toml import to_toml
from ansible_collections.keyfleet.hsm.plugins.module_utils._engine.files.toml_text import parse
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.toml_values import same
from hypothesis import given
from hypothesis import strategies as st

INSTANCES = st.lists(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["softhsm2", "SoftHSM2", "utimaco", "other"])},
        optional={"tokens": st.sampled_from([None, [], [{"label": "a"}], [{"label": "a"}, {"slot": 1}]])},
    ),
    max_size=12,
)


def test_prefixes_of_the_product() -> None:
    token = [{"label": "a"}]
    declared = [{"model": "SoftHSM2", "tokens": token}, {"model": "softhsm2", "tokens": token}]
    declared.append({"model": "utimaco", "tokens": token})
    assert hsm_prefixes(declared) == ["hsm::softhsm2", "hsm::softhsm2_1", "hsm::utimaco"]
    assert hsm_prefixes([{"name": "gone", "state": "absent"}, *declared[1:2]]) == [None, "hsm::softhsm2"]
    assert hsm_prefixes([{"model": "other"}, {"model": "other", "tokens": token}]) == [None, "hsm::other"]


def test_a_declaration_is_handed_on_without_its_secrets() -> None:
    token = {"label": "a", "pin": "1", "new_pin": "2", "so_pin": "3", "so_pin_file": "/s", "initialize": True, "pin_file": "/p"}
    declared = [{"name": "one", "tokens": [token, "odd"]}, {"name": "gone", "state": "absent", "tokens": [token]}, {"name": "none"}, "odd"]
    kept = [{"name": "one", "tokens": [{"label": "a", "pin_file": "/p"}, "odd"]}, {"name": "none"}, "odd"]
    assert hsm_present(declared, secrets=False) == kept
    assert hsm_present(declared)[0]["tokens"] == [token, "odd"]


@given(INSTANCES)
def test_the_nth_of_a_model_is_numbered_from_one_and_the_list_stays_in_step(declared: list[dict[str, Any]]) -> None:
    found = hsm_prefixes(declared)
    assert len(found) == len(declared)
    counts: dict[str, int] = {}
    for instance, prefix in zip(declared, found, strict=True):
        if not instance.get("tokens"):
            assert prefix is None
            continue
        model = instance["model"].lower()
        number = counts.get(model, 0)
        counts[model] = number + 1
        assert prefix == (f"hsm::{model}_{number}" if number else f"hsm::{model}")


@given(INSTANCES, INSTANCES)
def test_what_is_appended_moves_nothing(declared: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    assert hsm_prefixes(declared + more)[: len(declared)] == hsm_prefixes(declared)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "softhsm2"}, "the input is a dict: give a list of instances"),
        ("softhsm2", "the input is a str"),
        (["softhsm2"], "instances[0]: is a str: give a mapping"),
        ([{"tokens": []}], "instances[0].model: is missing"),
        ([{"model": "a b"}], "instances[0].model: 'a b' is no model name"),
        ([{"model": "other", "tokens": "x"}], "instances[0].tokens: is a str: give a list"),
    ],
)
def test_prefixes_of_what_is_no_list_of_instances(given: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        hsm_prefixes(given)
    assert words in str(caught.value)


def test_entries_that_shall_be_there() -> None:
    entries = [{"name": "a"}, {"name": "b", "state": "absent"}, {"name": "c", "state": "present"}, "no entry"]
    assert [entries[0], *entries[2:]] == hsm_present(entries)
    with pytest.raises(AnsibleFilterError, match="the input is a dict: give a list"):
        hsm_present({})


def instances(*tokens: Any, **more: Any) -> list[Any]:
    return [{"name": "primary", "tokens": list(tokens), **more}]


def test_hosts_that_share_a_token() -> None:
    declared = {
        "same1": instances({"label": "own"}, {"serial": "A1"}),
        "same2": instances({"serial": "a1"}),
        "other": instances({"serial": "A2"}, {"label": "own"}),
        "told": instances({"label": "own", "shared": "true"}),
        "not told": instances({"label": "own", "shared": False}),
        "goes": instances({"serial": "A2", "shared": True}, state="absent"),
        "nothing": [],
        "wrong": ["text", {"tokens": ["text"]}],
    }
    assert sharing_hosts(declared) == ["same1", "same2", "told"]
    # Twice on one host is that host's own affair.
    assert sharing_hosts({"one": instances({"serial": "A1"}, {"serial": "A1"})}) == []
    with pytest.raises(AnsibleFilterError, match="the input is not a mapping"):
        sharing_hosts([])


def test_all_problems_of_a_list_at_once() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        hsm_prefixes([1, {}, {"model": "7"}])
    assert all(f"instances[{index}]" in str(caught.value) for index in range(3))


@pytest.mark.parametrize("slot", [26, "26", "0x1a", "0X1A", " 26 "])
def test_uid_has_its_slot_in_decimal(slot: Any) -> None:
    assert hsm_uid("hsm::utimaco_1", slot, "key::a") == "hsm::utimaco_1::26::key::a"


@given(st.integers(min_value=0, max_value=2**64 - 1), st.text(min_size=1))
def test_uid_is_taken_apart_again(slot: int, key_id: str) -> None:
    text = hsm_uid("hsm::softhsm2", slot, key_id)
    assert text.split("::", 3) == ["hsm", "softhsm2", str(slot), key_id]
    assert hsm_uid("hsm::softhsm2", hex(slot), key_id) == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("softhsm2", 0, "a"), "'softhsm2' is no prefix"),
        ((None, 0, "a"), "the prefix: is a NoneType"),
        (("hsm::softhsm2", "1a", "a"), "slot: '1a' is no slot number"),
        (("hsm::softhsm2", -1, "a"), "slot: '-1' is no slot number"),
        (("hsm::softhsm2", True, "a"), "slot: is a bool"),
        (("hsm::softhsm2", 1.5, "a"), "slot: is a float"),
        (("hsm::softhsm2", 0, ""), "the key id is empty"),
        (("hsm::softhsm2", 0, 5), "key_id: is a int"),
    ],
)
def test_uid_of_what_is_none(arguments: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        hsm_uid(*arguments)
    assert words in str(caught.value)


PLAIN = st.recursive(
    st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), PLAIN, max_size=5))
def test_toml_reads_back_as_it_was(document: dict[str, Any]) -> None:
    text = to_toml(document)
    assert text.endswith("\n")
    assert same(parse(text), document)
    assert to_toml(document) == text


def test_toml_keeps_the_order_of_keys() -> None:
    assert to_toml({"b": 1, "a": {"d": 1, "c": 2}, "aa": True}) == "b = 1\naa = true\n\n[a]\nd = 1\nc = 2\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": {"b": [1, None]}}, "input.a.b[1]: has no value"),
        ({"a": None}, "leave the key out, or give a value"),
        ({1: "x"}, "input: the key 1 is no text: put it in quotes"),
        ({"a": {1, 2}}, "input.a: TOML holds no set"),
        ({"a": 2**63}, "input.a: is larger than the 64 bits"),
        ({"a": "\ud800"}, "input.a: is text that UTF-8 cannot hold"),
        ({"a": time(1, tzinfo=timezone.utc)}, "input.a: TOML has no time of day with a zone"),
        ([1], "the input is a list"),
        (None, "the input is a NoneType"),
    ],
)
def test_toml_of_what_it_cannot_hold(given: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        to_toml(given)
    assert words in str(caught.value)


def test_toml_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    with pytest.raises(AnsibleFilterError, match="pip install tomli-w"):
        to_toml({})


def test_the_writer_is_given_plain_types_only() -> None:
    class Text(str):
        __slots__ = ()

    class Mapping(dict[str, Any]):
        pass

    seen: list[Any] = []
    original = tomli_w.dumps
    try:
        tomli_w.dumps = lambda value: seen.append(value) or original(value)  # type: ignore[assignment, func-returns-value]
        to_toml(Mapping({Text("a"): [Text("b"), Mapping()], "d": datetime(2026, 1, 1), "e": date(2026, 1, 1)}))
    finally:
        tomli_w.dumps = original
    kinds = {type(item) for item in (seen[0], *seen[0], *seen[0]["a"])}
    assert kinds == {dict, str}


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    name: SoftHSM2
    hsm_instances:
      - {model: "{{ name }}", tokens: [{slot: 0}]}
      - {model: softhsm2, tokens: [{slot: 1}]}
    settings:
      http: {port: 9998, hosts: ["{{ name }}", b]}
      since: 2026-01-02
      quiet: yes
    expected: |
      since = 2026-01-02
      quiet = true

      [http]
      port = 9998
      hosts = [
          "SoftHSM2",
          "b",
      ]
  tasks:
    - ansible.builtin.assert:
        that:
          - hsm_instances | keyfleet.hsm.hsm_prefixes == ["hsm::softhsm2", "hsm::softhsm2_1"]
          - ("hsm::other" | keyfleet.hsm.hsm_uid("0x10", name)) == "hsm::other::16::SoftHSM2"
          - settings | keyfleet.hsm.to_toml == expected
"""


def test_values_from_templates(tmp_path: Path) -> None:
    """What templating hands over is lazy and tagged: the filters see the same as in Python."""
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "play.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.text(min_size=1), st.text(), st.text(), st.binary(max_size=20))
def test_a_uri_has_each_part_once_and_gives_it_back(token: str, serial: str, label: str, key_id: bytes) -> None:
    token, serial, label = (text.encode("utf-8", "ignore").decode() for text in (token, serial, label))
    if not token and not serial:
        return
    uri = pkcs11_uri(token, serial, label, key_id.hex(), "private")
    # RFC 7512, section 2.3: of the printable characters that separate parts or queries none stands in a value.
    assert re.fullmatch(r"pkcs11:[A-Za-z0-9%=;_.~-]*", uri)
    parts = dict(part.split("=") for part in uri.removeprefix("pkcs11:").split(";"))
    given_parts = {"token": token.encode(), "serial": serial.encode(), "id": key_id, "object": label.encode(), "type": b"private"}
    assert {name: unquote_to_bytes(value) for name, value in parts.items()} == {name: value for name, value in given_parts.items() if value}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token": ""}, "neither the token's label nor serial is given"),
        ({"token": 7}, "the token's label: is not text"),
        ({"token": "t", "id": "xyz"}, "id: is not hexadecimal"),
        ({"token": "t", "type": "key"}, "type: is none of secret, private, public, certificate, data"),
        ({"token": "", "id": "0", "type": "x"}, "id: is not hexadecimal"),
    ],
)
def test_a_uri_that_means_nothing_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(said)):
        pkcs11_uri(**given)
