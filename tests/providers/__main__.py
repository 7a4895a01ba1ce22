# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: the play on a host of its own, the table, and with ``--page`` the page in docs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from docs_page import DOCS, write_part
from four_turns import Verdict, judge

HERE = Path(__file__).resolve().parent


def chosen(only: str) -> list[dict[str, Any]]:
    """The providers to be tried, as providers.yml has them."""
    everyone: list[dict[str, Any]] = yaml.safe_load((HERE / "providers.yml").read_text())["providers"]
    return [one for one in everyone if only in one["name"] and ("wants" not in one or os.environ.get(one["wants"]))]


def play(inventory: str, providers: Sequence[Mapping[str, Any]], results: Path) -> int:
    given = json.dumps({"results": str(results), "chosen": [one["name"] for one in providers]})
    on = ",".join(sorted({"host2" if "wants" in one else "host1" for one in providers}))
    return subprocess.run(["ansible-playbook", "-i", inventory, "-l", on, "-e", given, str(HERE / "play.yml")], check=False).returncode


def verdicts(results: Path, providers: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], list[dict[str, Verdict]]]:
    """Names of the providers with their versions, the steps' titles, and for each provider what each step came to."""
    brought = "\n".join(path.read_text() for path in results.glob("versions-*.txt"))
    versions = dict(line.split(" ", 1) for line in brought.splitlines() if " " in line)
    found = []
    for number in range(len(providers)):
        steps: dict[str, Any] = json.loads((results / f"{number}.json").read_text())
        one = {name: judge(name, answer["results"]) for name, answer in steps.items()}
        if one["declare"].what != "ok":
            one = {name: verdict if name == "declare" else Verdict("not tried") for name, verdict in one.items()}
        found.append(one)
    names = [f"{one['name']} ({versions.get(one['package'], 'built from its source')})" for one in providers]
    return names, titles(found[0]), found


def titles(steps: Mapping[str, Verdict]) -> list[str]:
    """What steps.yml calls the steps."""
    tasks = yaml.safe_load((HERE / "steps.yml").read_text())[-1]["block"]
    named = {task["register"].removeprefix("step_"): task["name"] for task in tasks if "register" in task}
    return [named[step] for step in steps]


def tables(names: Sequence[str], named: Sequence[str], found: Sequence[Mapping[str, Verdict]]) -> list[str]:
    numbers = [str(number + 1) for number in range(len(names))]
    lines = [f"{number}. {name}" for number, name in zip(numbers, names, strict=True)]
    lines += ["", f"| step | {' | '.join(numbers)} |", "|---" * (len(names) + 1) + "|"]
    for title, step in zip(named, found[0], strict=True):
        lines.append(f"| {title} | {' | '.join(one[step].what for one in found)} |")
    for name, one in zip(names, found, strict=True):
        told = [(title, verdict) for title, verdict in zip(named, one.values(), strict=True) if verdict.why]
        if told:
            lines += ["", f"{name}:", "", *(f"- {title}, {verdict.what}: {verdict.why}" for title, verdict in told)]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="providers", description="Take every PKCS#11 provider of Debian 12 through one play.")
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--only", default="", metavar="WORD", help="providers whose name holds this")
    parser.add_argument("--page", action="store_true", help="write docs/providers.md")
    given = parser.parse_args()
    providers = chosen(given.only)
    with tempfile.TemporaryDirectory() as folder:
        if status := play(given.inventory, providers, Path(folder)):
            return status
        names, named, found = verdicts(Path(folder), providers)
    lines = tables(names, named, found)
    print("\n".join(lines))
    if given.page:
        write_part(DOCS / "providers.md", "the tables", "`make providers`", lines)
    return 1 if any(verdict.what == "fault" for one in found for verdict in one.values()) else 0


sys.exit(main())
