# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alerting rules speak of metrics and labels that the health service has. `make alerts` has Prometheus play them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "roles" / "gateway" / "files" / "prometheus"
SOURCE = (ROOT / "roles" / "gateway" / "files" / "keyfleet_gateway" / "metrics.py").read_text()
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "keyfleet.rules.yml").read_text())["groups"] for rule in group["rules"]
]
PAGE = (ROOT / "docs" / "alerts.md").read_text()


def metrics() -> dict[str, set[str]]:
    """The labels of each metric, as the service's source has them."""
    shared = {name: set(re.findall(r'"(\w+)"', labels)) for name, labels in re.findall(r"^(_[A-Z]+) = \((.*)\)$", SOURCE, re.MULTILINE)}
    found = {}
    for name, rest in re.findall(r'GaugeMetricFamily\(\s*"(\w+)",(.*?)\)\n', SOURCE, re.DOTALL):
        labels = rest.partition("labels=")[2]
        found[name] = set(re.findall(r'"(\w+)"', labels)).union(*(shared[one] for one in re.findall(r"_[A-Z]+", labels)))
    return found


def named(text: str) -> set[str]:
    return set(re.findall(r"keyfleet_\w+", text))


def test_the_metrics_of_the_service_are_found() -> None:
    assert metrics()["keyfleet_token_pin_state"] == {"instance", "prefix", "token", "state"}
    assert metrics()["keyfleet_healthy"] == set() and len(metrics()) >= 14


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_what_there_is(rule: dict[str, Any]) -> None:
    there = metrics()
    used = named(rule["expr"])
    assert used <= there.keys() and (used or rule["expr"].startswith("up{"))
    # The address that Prometheus reads is instance, and the service's own label of that name becomes exported_instance.
    labels = {"instance"}.union(*({"exported_instance" if one == "instance" else one for one in there[name]} for name in used))
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels
    assert set(re.findall(r"(\w+)=~?\"", rule["expr"].replace('job="', ""))) <= labels
    assert rule["annotations"].keys() == {"summary", "action"} and rule["labels"]["severity"] in ("page", "ticket")


def test_each_rule_is_played_and_explained_once() -> None:
    alerts = [rule["alert"] for rule in RULES]
    quiet, firing = (test for test in yaml.safe_load((FOLDER / "keyfleet.test.yml").read_text())["tests"])
    assert [case["alertname"] for case in quiet["alert_rule_test"]] == alerts == list(dict.fromkeys(alerts))
    fired = re.findall(r'alertname="(\w+)"', yaml.safe_dump(firing["promql_expr_test"]))
    assert set(fired) == set(alerts)
    assert re.findall(r"^\| `(Keyfleet\w+)` \|", PAGE, re.MULTILINE) == alerts
    assert named(PAGE) <= metrics().keys()
