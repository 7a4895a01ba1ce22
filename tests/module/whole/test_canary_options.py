# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in a secret option is shown nowhere, whatever its characters: not in the log, the answer, or a playbook's output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from argument_specs import MODULES, arguments, is_secret, places, spec_of
from hsm_fixture import Hsm
from system_log import system_log

HALVES = ("Kx7391", "qZ5520")
AWKWARD = {
    "plain": "-",
    "backslash": "\\s",
    "tab": "\t",
    "newline": "\n",
    "both quotes": "'\"",
    "accent": "ü",
    "beyond the BMP": "\U0001f511",
    "control": "\x1b[2J\x7f",
    "NUL": "\0",
    "surrogate": "\udc80",
    "key in PEM": "\n-----END PRIVATE KEY-----\n-----BEGIN PRIVATE KEY-----\n",
}
WITH_SECRETS = [name for name in MODULES if any(places(spec_of(name), is_secret))]


def secrets(module: str, between: str) -> dict[str, Any]:
    """Arguments of ``module`` with a canary in each secret option."""
    spec = spec_of(module)
    text = between.join(HALVES)
    given: dict[tuple[str, ...], Any] = dict.fromkeys(places(spec, is_secret), text)
    for place, value in (
        (("settings",), {"db": {"database_url": text}, "vault": [{"token": text}]}),
        (("library",), "/nowhere/library.so"),
        (("model",), "softhsm2"),
    ):
        if place[0] in spec:
            given[place] = value
    return arguments(spec, given)


def shown(text: str) -> list[str]:
    return [text[max(0, text.find(half) - 200) :][:250] for half in HALVES if half in text]


def test_every_module_with_secrets_is_here() -> None:
    assert WITH_SECRETS == [
        "hsm_certificate",
        "hsm_info",
        "hsm_instance",
        "hsm_key",
        "hsm_status",
        "hsm_status_info",
        "hsm_sync",
        "kms_config",
    ]


@pytest.mark.parametrize("between", AWKWARD.values(), ids=AWKWARD)
def test_no_secret_in_the_log_or_the_answer(hsm: Hsm, between: str) -> None:
    with system_log() as log:
        answers = {
            (module, check): hsm.run(module, check=check, **secrets(module, between)) for module in WITH_SECRETS for check in (True, False)
        }
    for answer in answers.values():
        assert shown(answer["_raw"]) == []
        assert answer["msg"] and "unexpected" not in answer["msg"]
    logged = b"".join(log).decode(errors="replace")
    assert shown(logged) == []
    # What is no secret is there to be read. No module takes the last two, and nothing is logged of what is refused.
    assert logged.count(f"registry={hsm.registry} ") == (len(answers) if between not in ("\0", "\udc80") else 0)


TEXT = "-".join(HALVES)
# What may have slipped into an option that takes something else: by form the value, and the types that refuse it.
SLIPPED: dict[str, tuple[Any, set[str]]] = {
    "text": (TEXT, {"path", "int", "bool", "entries", "group"}),
    "key": (f"-----BEGIN PRIVATE KEY-----\n{TEXT}", {"path", "int", "bool", "entries", "group"}),
    "list": ([[TEXT]], {"str", "path", "int", "bool", "list", "dict", "entries", "group"}),
    "list of mappings": ([[{TEXT: TEXT, "pin": TEXT}]], {"str", "path", "int", "bool", "list", "dict", "entries", "group"}),
    "mapping": ({TEXT: TEXT, "pni": TEXT}, {"str", "path", "int", "bool", "list", "entries", "group"}),
}


def kind_of(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return {"list": "entries", "dict": "group"}[kind] if option.get("options") else kind


@pytest.mark.parametrize("form", SLIPPED)
def test_what_slipped_into_any_other_option_is_not_shown(hsm: Hsm, form: str) -> None:
    value, refusing = SLIPPED[form]
    with system_log() as log:
        for module in MODULES:
            spec = spec_of(module)
            found = list(places(spec, lambda option: kind_of(option) in refusing))
            for depth in sorted({len(place) for place in found}):
                given = {place: value for place in found if len(place) == depth}
                answer = hsm.call(module, arguments(spec, given))
                problems = answer["failure"]["details"]["problems"]
                assert answer["failure"]["code"] == "invalid_input" and len(problems) >= len(given)
                assert shown(answer["_raw"]) == []
    assert shown(b"".join(log).decode(errors="replace")) == []


@pytest.mark.parametrize("module", MODULES)
def test_what_stands_under_no_option_is_not_shown(hsm: Hsm, module: str) -> None:
    spec = spec_of(module)
    for above in {place[:-1] for place in places(spec, lambda _option: True)}:
        given = arguments(spec, {(*above, "nothing"): None})
        inner: Any = given
        for name in above:
            inner = inner[name][0] if isinstance(inner[name], list) else inner[name]
        inner |= {TEXT: 1, "pni": TEXT, "nonsense": [TEXT]}
        answer = hsm.call(module, given)
        assert sum("unknown option" in problem for problem in answer["failure"]["details"]["problems"]) == 3
        assert shown(answer["_raw"]) == []


def test_no_secret_in_the_log_of_refused_arguments(hsm: Hsm) -> None:
    with system_log() as log:
        for module in WITH_SECRETS:
            answer = hsm.run(module, **secrets(module, "\t"), nonsense="\t".join(HALVES))
            assert answer["failed"] and shown(answer["_raw"]) == []
    assert shown(b"".join(log).decode(errors="replace")) == []


JOURNAL = """
import json, sys
from collections.abc import Mapping
from pathlib import Path
from systemd import journal
from ansible_collections.keyfleet.hsm.plugins.modules.{module} import main

main()
"""


@pytest.mark.parametrize("module", WITH_SECRETS)
def test_no_secret_in_the_fields_of_the_journal(hsm: Hsm, module: str) -> None:
    """With python-systemd, Ansible sends each option as a field of its own. Here it writes them into a file."""
    package = hsm.scratch / "site/systemd"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "daemon.py").write_text("def booted(): return True")
    (package / "journal.py").write_text("import sys\ndef send(**fields): print(fields, file=sys.stderr)\nsendv = send")
    program = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n" + JOURNAL.format(module=module)
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"registry": hsm.registry, **secrets(module, "\\")}})
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, check=False)
    assert "'REGISTRY'" in done.stderr and "Invoked with" in done.stderr
    assert shown(done.stdout + done.stderr) == []


def test_no_secret_in_a_playbook_that_is_asked_for_everything(hsm: Hsm) -> None:
    between = "".join(value for name, value in AWKWARD.items() if name not in ("NUL", "surrogate"))
    given = {module: {"registry": hsm.registry, **secrets(module, between)} for module in WITH_SECRETS}
    tasks = [
        {
            "name": f"Refused by {module}",
            f"keyfleet.hsm.{module}": {name: f"{{{{ given.{module}['{name}'] }}}}" for name in given[module]},
            "ignore_errors": True,
            "check_mode": check,
        }
        for module in WITH_SECRETS
        for check in (True, False)
    ]
    variables = {"ansible_python_interpreter": sys.executable}
    playbook, values = hsm.scratch / "all.yml", hsm.scratch / "values.json"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}])
    )
    values.write_text(json.dumps({"given": given}))
    with system_log() as log:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvvv", "--diff", "-e", f"@{values}"]
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(hsm.scratch / "ansible"),
            "ANSIBLE_LOG_PATH": str(hsm.scratch / "ansible.log"),
            "ANSIBLE_PIPELINING": "0",
        }
        done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=300)
    assert f"ignored={len(tasks)}".encode() in done.stdout, done.stdout.decode()[-3000:]
    files = b"".join(path.read_bytes() for path in hsm.scratch.rglob("*") if path.is_file() and path != values)
    for output in (done.stdout, done.stderr, files, *log):
        assert shown(output.decode(errors="replace")) == []
    assert b"hsm_key" in b"".join(log)
