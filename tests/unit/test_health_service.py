# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of the health service, with plain values."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import speaks_of_device
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.records import GroupRecord, InstanceRecord, TokenRecord, VirtualKey
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.selectors import TokenSelector
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.status import TokenStatus
from ansible_collections.keyfleet.hsm.plugins.module_utils._registry.database import open_database
from keyfleet_gateway import origins, registry_copy, schedule, service
from keyfleet_gateway.asking import ProbeError
from keyfleet_gateway.board import Board
from keyfleet_gateway.config import Config, ConfigError, parse_config
from keyfleet_gateway.journal import native
from keyfleet_gateway.keys import Facts, facts_of, read_facts, seconds_of
from keyfleet_gateway.known import Certificates, Compared, Known, Member, certificates_after
from keyfleet_gateway.metrics import Metrics
from keyfleet_gateway.view import view

TOKEN = {"label": "payments", "pin_file": "/etc/keyfleet/pin"}
PRIMARY = {"name": "primary", "model": "softhsm2", "tokens": [TOKEN, {"label": "signing", "login": False}]}
GOOD: dict[str, Any] = {"state": "/var/lib/gateway", "http": {"listen": ["*:4441", "[::1]:80"]}, "instances": [PRIMARY]}


def problems(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config({**GOOD, **changes})
    return caught.value.problems


def test_good_configuration() -> None:
    config = parse_config(GOOD)
    assert [str(address) for address in config.http] == ["*:4441", "[::1]:80"]
    assert (config.interval, config.timeout, config.kind, config.https) == (30, 20, "roundtrip", None)
    assert [token.login for token in config.instances[0].tokens] == [True, False]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "relative"}, "state: must be an absolute path"),
        ({"state": 1}, "state: must be a text"),
        ({"http": {}}, "the service listens nowhere"),
        ({"http": {"listen": ["::1:80"]}}, "give address:port"),
        ({"http": {"listen": ["a:99999"]}}, "give address:port"),
        ({"https": {"listen": []}}, "https.certificate: is missing"),
        ({"https": {"listen": [], "certificate": "/a", "client_names": ["x"]}}, "has no use without https.client_ca"),
        ({"https": {"listen": [], "certificate": "/a", "client_crl": "/b"}}, "has no use without https.client_ca"),
        ({"probe": {"interval": "2h"}}, "give 1 s to 3600 s"),
        ({"probe": {"kind": "ping"}}, "give login or roundtrip"),
        ({"token_file": "credential:nowhere"}, "is not in credentials"),
        ({"credentials": {"../a": "/b"}}, "cannot be the name of a credential"),
        ({"instances": []}, "there is none"),
        ({"instances": [PRIMARY, PRIMARY]}, "is given twice"),
        ({"instances": [{**PRIMARY, "tokens": [{"label": "a"}]}]}, "instances[0].tokens[0].pin_file: is missing"),
        ({"instances": [{**PRIMARY, "tokens": [{**TOKEN, "pin": "pin-7391"}]}]}, "instances[0].tokens[0].pin: unknown"),
        ({"instances": [{**PRIMARY, "tokens": [{**TOKEN, "login": "pinpad"}]}]}, "login: must be true or false"),
        ({"instances": [{**PRIMARY, "tokens": [{**TOKEN, "serial": "1"}]}]}, "exactly one of label, serial, slot"),
        ({"instances": [{**PRIMARY, "model": "unheard"}]}, "give the path of its PKCS#11 library"),
        ({"rotations": [{"label": "a", "max_age": "90d"}]}, "rotations[0].instance: give either instance or group"),
    ],
)
def test_each_problem_is_found(changes: Mapping[str, Any], expected: str) -> None:
    found = problems(**changes)
    assert any(expected in problem for problem in found) and len(found) == 1, found
    assert "pin-7391" not in str(found)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(surprise=1, probe={"interval": "soon", "kind": "ping"}, http={"listen": ["x"]}, instances=[{"name": "a b"}])) == 5


def slot(code: str | None = None, *, label: str = "payments", device: bool = False, **fields: Any) -> dict[str, Any]:
    seen = TokenStatus(slot_id=7, label=label, accessible=code is None, error=code, code=code, device_fault=device)
    return {**seen.as_slot(), **fields}


SIGNING = slot(label="signing", slot_id=3)


def board(config: Config | None = None) -> Board:
    return Board.of((config or parse_config(GOOD)).instances, 60)


def test_healthy_only_when_every_token_was_proven() -> None:
    told = board()
    assert told.healthy(0) is False
    assert [place for place, _seen in told.note("primary", [slot(), SIGNING], now=10, took=1)] == [0, 1]
    assert told.healthy(10) is told.healthy(70) is True
    assert told.healthy(71) is False, "an answer that is too old is none"
    assert told.note("primary", [slot(), SIGNING], now=80, took=1) == [], "nothing new"
    gone = slot("no_token", slot_id=None)
    assert [place for place, _seen in told.note("primary", [gone, SIGNING], now=90, took=1)] == [0]
    assert told.healthy(90) is False
    # What was seen last is remembered.
    assert [entry["slot_id"] for entry in told.status(91)[0]["slots"]] == [3, 7]
    assert told.status(91)[0]["slots"][1]["age"] == 1


@pytest.mark.parametrize(
    ("code", "device", "healthy"),
    [
        (None, False, True),
        ("pin_incorrect", False, None),
        ("pin_not_tried", False, None),
        ("pin_count_low", False, None),
        ("pin_final_try", False, None),
        ("pin_file_missing", False, None),
        ("lock_timeout", False, None),
        ("not_probed", False, None),
        ("CKR_MECHANISM_INVALID", False, None),
        ("CKR_ARGUMENTS_BAD", False, None),
        ("pin_locked", False, False),
        ("pin_not_initialized", False, False),
        ("no_token", False, False),
        ("token_changed", False, False),
        ("library_missing", False, False),
        ("library_init_failed", False, False),
        ("CKR_DEVICE_ERROR", True, False),
        ("probe_timeout", True, False),
        ("probe_crashed", True, False),
    ],
)
def test_callers_mistake_leaves_health_as_it_was(code: str | None, device: bool, healthy: bool | None) -> None:
    assert (code is None or speaks_of_device(code, device_fault=device)) is (healthy is not None)
    for before in (True, False):
        told = board()
        if before:
            told.note("primary", [slot(), SIGNING], now=1, took=1)
        told.note("primary", [slot(code, device=device), SIGNING], now=2, took=1)
        assert told.healthy(2) is (before if healthy is None else healthy)


def test_probe_that_gave_nothing_is_a_fault_of_all_its_tokens() -> None:
    told = board()
    told.note("primary", [slot(), SIGNING], now=1, took=1)
    told.note_failure("primary", "no answer", "probe_timeout", now=2, took=1)
    assert [entry["code"] for entry in told.status(2)[0]["slots"]] == ["probe_timeout"] * 2 and not told.healthy(2)


def test_reload_keeps_what_is_known_of_an_instance_that_stays_as_it_was() -> None:
    told = board()
    told.note("primary", [slot(), SIGNING], now=1, took=1)
    other = {"name": "other", "model": "softhsm2", "tokens": [{"serial": "1", "login": False}]}
    both = Board.of(parse_config({**GOOD, "instances": [PRIMARY, other]}).instances, 60, told)
    assert [entry["prefix"] for entry in both.status(2)] == ["hsm::softhsm2", "hsm::softhsm2_1"]
    assert [entry["slots"][0]["healthy"] for entry in both.status(2)] == [True, False]
    moved = Board.of(parse_config({**GOOD, "instances": [other, PRIMARY]}).instances, 60, told)
    assert moved.entries["primary"].probed is None and moved.entries["primary"].probes == 1


def test_schedule() -> None:
    assert [schedule.next_delay(30, 2, lambda at=at: at) for at in (0.0, 0.5, 1.0)] == [25, 28, 31]
    assert schedule.next_delay(30, 500, lambda: 0.0) == 3, "a probe that takes long is no reason to probe without a pause"
    # Two probes in a row that took all their time, begun as late as can be.
    assert schedule.stale_after(30, 20) > 2 * (33 + 20)


def test_facts_of_keys() -> None:
    token = TokenRecord(TokenSelector("label", "payments"), label="payments", id=1)
    known = [InstanceRecord("primary", "softhsm2", "/lib.so", tokens=(token,))]
    day = "2026-11-{:02d}T00:00:00Z".format

    def key(label: str, made: int, state: str = "active", generation: int = 1, group: str | None = None) -> VirtualKey:
        return VirtualKey(
            *(1, "secret", b"", label, "AES", 256, None, (), "made"), state=state, made_at=day(made), generation=generation, group_id=group
        )

    keys = [key("a", 1, "deactivated"), key("a@2", 3, generation=2), key("a@3", 9, generation=3), key("b@home", 5, group="7")]
    keys += [key("d-1", 2), key("d-1@2", 4, generation=2), key("d-2", 3), key("e@home@2", 6, generation=2)]
    cards = [GroupRecord("cards", id="7", members=(1,))]
    wanted = [
        *({"instance": "primary", "label": label, "max_age": "1d"} for label in ("a", "c", "d-[1:3]", "e@home", "f[2:1]")),
        {"group": "cards", "label": "b@home", "max_age": "1m", "lead": "10s"},
    ]
    rotations = parse_config({**GOOD, "rotations": wanted}).rotations
    assert [one.label for one in rotations] == ["a", "c", "d-1", "d-2", "d-3", "e@home", "f[2:1]", "b@home"]
    facts = facts_of(known, cards, keys, rotations)
    assert facts.counts == {("primary", "payments", "AES", "active"): 7, ("primary", "payments", "AES", "deactivated"): 1}
    assert facts.oldest_active == {("primary", "payments"): seconds_of(day(2))}
    ends = {"a": 10, "d-1": 5, "d-2": 4, "e@home": 7}
    assert facts.rotations == {
        **{("primary", "", label): seconds_of(day(end)) for label, end in ends.items()},
        ("", "cards", "b@home"): seconds_of(day(5)) + 50,
    }


def test_copy_of_the_registry_has_an_age_and_goes_with_the_registry(tmp_path: Path) -> None:
    registry, copied = str(tmp_path / "registry.db"), str(tmp_path / "copies" / "registry.db")
    group = grp.getgrgid(os.getgid()).gr_name
    with open_database(registry, run="test", create=True):
        pass
    assert registry_copy.main([registry, copied, group]) == 0
    os.utime(copied, (1000.0, 1000.0))
    (tmp_path / "damaged.db").write_text("no registry")
    assert registry_copy.main([str(tmp_path / "damaged.db"), copied, group]) == 1, "then systemd has a unit that failed"
    told = Metrics(Known(board(), read_facts(copied, ())))
    (age,) = re.findall(r"^keyfleet_registry_copy_age_seconds (\S+)$", told.text().decode(), re.MULTILINE)
    assert float(age) == pytest.approx(time.time() - 1000, abs=60) and b"keyfleet_registry_readable 1.0" in told.text()
    registry_copy.copy(registry, copied, group)
    assert (read_facts(copied, ()).copied or 0) > 1000, "each copy is a new file, also of a registry that did not change"
    os.rename(registry, f"{registry}.moved")
    registry_copy.copy(registry, copied, group)
    assert not os.path.exists(copied) and read_facts(copied, ()) == Facts(readable=False)


def test_state_of_a_pin_file_is_for_the_service_alone(tmp_path: Path) -> None:
    """It has the PIN's length."""
    (tmp_path / "pin").write_text("123456\n")
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, -1)
    origins.write(origins.look(parse_config({**GOOD, "credentials": {"pin": str(tmp_path / "pin")}})), str(tmp_path))
    written = os.stat(tmp_path / "origins.json")
    assert (stat.S_IMODE(written.st_mode), written.st_uid) == (0o600, os.stat(tmp_path).st_uid)
    assert json.loads((tmp_path / "origins.json").read_text())["pin"].endswith(":7")


WEB = {"label": "web", "id": "01", "end": 5.0}


def test_certificates_of_a_token_that_cannot_be_read_are_those_of_before() -> None:
    first = certificates_after(None, [{"certificates": [WEB]}, {"error": "no answer"}], 10)
    assert first == Certificates(10, [[WEB], ()], [None, "no answer"])
    second = certificates_after(first, [{"error": "C_FindObjectsInit: CKR_DEVICE_ERROR"}, {"certificates": []}], 20)
    assert second == Certificates(20, [[WEB], []], ["C_FindObjectsInit: CKR_DEVICE_ERROR", None])
    known = Known(board(), certificates={"primary": second})
    assert known.certificate_ends() == {("primary", "payments", "web", "01"): 5.0}
    text = Metrics(known).text().decode()
    read = re.findall(r'^keyfleet_certificates_read{.*token="(\w+)"} (\S+)$', text, re.MULTILINE)
    assert read == [("payments", "0.0"), ("signing", "1.0")] and "keyfleet_certificate_days_left{" in text
    task = view(known, now=21, wall=1.0).tasks[0]
    assert task.what == "Certificates on token payments of instance primary could not be read" and "CKR_DEVICE_ERROR" in task.error


def test_reload_keeps_certificates_and_groups_of_instances_that_stay_as_they_were() -> None:
    read = Certificates(1, [[WEB], []], [None, None])
    groups = {"cards": Compared(1, (Member("primary", "payments", 2), Member("primary", "signing", 0)))}
    known = Known(board(), Facts(readable=True), {"primary": read}, groups)
    same = known.stays(board(parse_config({**GOOD, "probe": {"interval": "9s"}})))
    assert (same.facts, same.certificates, same.groups) == (known.facts, known.certificates, groups)
    other = known.stays(board(parse_config({**GOOD, "instances": [{**PRIMARY, "environment": {"A": "1"}}]})))
    assert (other.certificates, other.groups) == ({}, {})


def test_what_failed_is_asked_for_again_and_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = parse_config(GOOD)
    running = service.Service("/gateway.toml", service.Ready(config, {}, None, None), Known(board()))
    asked: list[bool] = []
    answers: list[dict[str, Any]] = [
        {"slots": [slot(), SIGNING], "certificates": [{"certificates": [WEB]}, {"certificates": []}]},
        {"slots": [slot(), SIGNING]},
        {"slots": [slot(), SIGNING], "certificates": [{"error": "C_OpenSession: CKR_DEVICE_ERROR"}, {"certificates": []}]},
        {"slots": [slot(), SIGNING], "certificates": [{"error": "C_OpenSession: CKR_DEVICE_ERROR"}, {"certificates": []}]},
    ]

    async def ask(request: Mapping[str, Any], _seconds: float) -> dict[str, Any]:
        if "group" in request:
            raise ProbeError("the probe gave no answer", "probe_timeout")
        asked.append(request["certificates"])
        return answers[len(asked) - 1]

    async def scene() -> None:
        for turn in range(4):
            await running._probe(config, "primary")
            if turn == 1:
                running._taken = time.monotonic()  # a reload
        await running._compare_group(config, "cards", (("primary", "payments"), ("primary", "signing")))

    monkeypatch.setattr(service, "ask", ask)
    asyncio.run(scene())
    assert asked == [True, False, True, True], "at the first probe, after a reload, and after an error"
    assert list(running.known.certificate_ends()) == [("primary", "payments", "web", "01")]
    assert capsys.readouterr().err.count("certificates cannot be read: C_OpenSession: CKR_DEVICE_ERROR") == 1
    read = re.findall(r"^keyfleet_group_member_read{.*} (\S+)$", Metrics(running.known).text().decode(), re.MULTILINE)
    assert read == ["0.0", "0.0"] and not running.known.groups["cards"].whole


def test_journals_own_form() -> None:
    assert native({"MESSAGE": "a", "TRACE": "b\nc"}) == b"MESSAGE=a\nTRACE\n\x03\0\0\0\0\0\0\0b\nc\n"


def test_probe_imports_no_more_than_it_needs() -> None:
    """It starts anew for each instance, every few seconds."""
    code = "import sys, keyfleet_gateway.probe; print(sorted({'aiohttp', 'asyncio', 'cryptography', 'jinja2', 'ssl'} & set(sys.modules)))"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
