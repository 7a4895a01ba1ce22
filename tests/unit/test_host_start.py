# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Ansible's own modules start on test hosts and in tests: in a fork that is to them what a Python of their own would be."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually

# What conftest.py has every Python of the tests start with.
START = Path(__file__).resolve().parents[2] / ".build/start/sitecustomize.py"
OURS = "ansible_collections/keyfleet/hsm/plugins/modules/hsm_key.py"
OTHER = "ansible_collections/keyfleet/hsm/plugins/modules/hsm_group.py"
SHARED = "ansible_collections/keyfleet/hsm/plugins/module_utils/shared.py"


def name_of(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


NAME = name_of(OURS)
LOADER = "ansible/module_utils/_internal/_ansiballz/_loader.py"
# What Ansible sends, without what matters to nobody here: ansible-core 2.19 and later, and 2.18.
GIVEN = """import atexit, importlib, json, os, signal, sys, tempfile, time, zipfile
given = dict(
module_fqn='{module}',
params='"_ansible_version": "{version}", ',
zip_data='{archive}',
)
"""
OLDER = """import atexit, importlib, json, os, signal, sys, tempfile, time, zipfile
if True:
    ZIPDATA = '{archive}'
    def run():
        runpy.run_module(mod_name='{module}', init_globals={{}})
    ANSIBALLZ_PARAMS = '"_ansible_version": "{version}", '
"""
PROGRAM = """
with tempfile.TemporaryDirectory() as folder:
    own = os.path.join(folder, "own.zip")
    with zipfile.ZipFile(own, "w") as files:
        for name in ("ansible/__init__.py", "ansible/module_utils/__init__.py", "ansible/module_utils/mine.py"):
            files.writestr(name, "")
    sys.path.insert(0, own)
    loader = sys.modules.get("ansible.module_utils._internal._ansiballz._loader")
    mine = importlib.import_module("ansible.module_utils.mine").__file__
mask = os.umask(0)
os.umask(mask)
print(json.dumps(dict(
    forked=loader is not None, mine=mine.startswith(own), process=os.getpid(), parent=os.getppid(), folder=os.getcwd(), mask=mask,
    environment=dict(os.environ), rest=sys.stdin.read(), argv=sys.argv, main=sys.modules["__main__"].__dict__["__name__"],
    child=signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
)), flush=True)
atexit.register(print, "the end")
{then}
"""


def packages(*files: str) -> list[str]:
    """These files, and those that make packages of the folders that they are in."""
    folders = [folder for file in files for folder in list(Path(file).parents)[:-1]]
    return sorted({*files, *(f"{folder}/__init__.py" for folder in folders)})


def archive(text: str = "", minute: int = 0, module: str = OURS, more: dict[str, str] | None = None) -> str:
    content, texts = io.BytesIO(), {LOADER: "def run(): pass", module: text, **(more or {})}
    with zipfile.ZipFile(content, "w") as files:
        for name in packages(*texts):
            packed = zipfile.ZipInfo(name, (2026, 11, 30, 12, minute, 0))
            files.writestr(packed, texts.get(name, ""))
    return base64.b64encode(content.getvalue()).decode()


ARCHIVE = archive(module="ansible/modules/told.py")
OTHER_ENTRIES = base64.b64encode(base64.b64decode(ARCHIVE).replace(b"PK\1\2", b"PK\1\3")).decode()


class Start:
    """A Python that starts as those of test hosts do."""

    def __init__(self, folder: Path, given: str = GIVEN) -> None:
        self.program = given + PROGRAM
        self.code = START.read_text()
        self.folder = folder
        self.kept = folder / "kept" / f"{os.geteuid()}-{sys.implementation.cache_tag}"
        self.kept.mkdir(parents=True)
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "KEYFLEET_BYTECODE": str(folder / "kept")}
        self.write(self.code)

    def write(self, code: str) -> None:
        (self.folder / "sitecustomize.py").write_text(code)

    def begin(
        self,
        then: str = "",
        module: str = "ansible.modules.told",
        version: str = "2",
        packed: str = ARCHIVE,
        **environment: str,
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            umask=0o027,
            env={**self.environment, **environment},
        )
        assert process.stdin
        process.stdin.write(self.program.format(module=module, version=version, archive=packed, then=then))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, then: str = "", **options: str) -> dict[str, Any]:
        process = self.begin(then, **options)
        out, err = process.communicate(timeout=60)
        told, *rest = out.splitlines()
        return {**json.loads(told), "code": process.returncode, "asked": process.pid, "rest_of_out": rest, "err": err}

    def doors(self) -> list[Path]:
        return list(self.kept.glob("*.socket"))

    def opened(self, number: int = 1) -> None:
        eventually(lambda: len(self.doors()) >= number)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


@pytest.fixture(params=[GIVEN, OLDER], ids=["2.19", "2.18"])
def any_start(tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    return Start(tmp_path, request.param)


def test_a_fork_is_what_the_python_that_asks_would_be(any_start: Start) -> None:
    start = any_start
    alone = start.run()
    start.opened()
    forked = start.run()
    assert (alone.pop("forked"), forked.pop("forked")) == (False, True)
    assert alone.pop("process") == alone.pop("asked") and forked.pop("process") != forked.pop("asked")
    assert alone.pop("parent") == os.getpid() != forked.pop("parent")
    assert alone["environment"].pop("LC_CTYPE", "") == forked["environment"].pop("LC_CTYPE", "")
    # A file of Python's own names the program.
    assert (alone.pop("argv"), forked.pop("argv")) == ([""], ["/proc/self/fd/0"])
    assert alone == forked
    assert alone["mine"] and alone["mask"] == 0o027 and alone["folder"] == str(start.folder) and alone["child"]
    assert alone["rest_of_out"] == ["the end"]


def test_one_process_forks_for_all_at_once(start: Start) -> None:
    parent = None
    start.run()
    start.opened()
    for _turn in range(5):
        asking = [start.begin() for _one in range(8)]
        told = [json.loads(process.communicate(timeout=60)[0].splitlines()[0]) for process in asking]
        assert all(one["forked"] for one in told)
        parents = {one["parent"] for one in told}
        assert len(parents) == 1 and parent in (None, *parents)
        parent = parents.pop()


@pytest.mark.parametrize(
    ("then", "code", "err"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("raise ValueError('so it is')", 1, "ValueError: so it is"),
        ("sys.stderr.write('seen'); sys.exit(1)", 1, "seen"),
        ("sys.exit('so it is')", 1, "so it is"),
        # What a module forks may end first.
        ("os.fork() or os._exit(0); os.wait(); sys.exit(4)", 4, ""),
        ("import threading\nthreading.Thread(target=lambda: [time.sleep(0.3), sys.stderr.write('seen')]).start()\nsys.exit(5)", 5, "seen"),
    ],
)
def test_its_end_is_the_end_of_the_one_that_asks(start: Start, then: str, code: int, err: str) -> None:
    start.run()
    start.opened()
    told = start.run(then)
    assert told["forked"] and told["code"] == code and err in told["err"] and bool(err) == bool(told["err"])
    assert told["rest_of_out"] == ["the end"]


def test_a_module_of_another_collection_starts_as_anywhere(start: Start) -> None:
    start.run()
    start.opened()
    told = start.run(module="ansible_collections.other.any.plugins.modules.told")
    assert not told["forked"] and told["process"] == told["asked"]


def test_our_modules_are_imported_once_by_the_process_of_all(any_start: Start) -> None:
    start = any_start
    start.run()
    start.opened()
    count = f"with open({str(start.folder / 'imported')!r}, 'a') as file: file.write('x')"
    first = archive("from ..module_utils import shared", module=OURS, more={SHARED: count})
    second = archive("from ..module_utils import shared", module=OTHER, more={SHARED: count, SHARED.replace("shared", "own"): ""})
    for module, packed in ((OURS, first), (OTHER, second), (OURS, first)):
        told = start.run(f"assert {name_of(module)!r} not in sys.modules", module=name_of(module), packed=packed)
        assert told["forked"] and told["code"] == 0, told["err"]
    assert (start.folder / "imported").read_text() == "x" and len(start.doors()) == 1
    # Another run of Ansible packs the same at another time.
    assert start.run(module=NAME, packed=archive("from ..module_utils import shared", 1, more={SHARED: count}))["forked"]
    assert (start.folder / "imported").read_text() == "x"


@pytest.mark.parametrize("other", [archive("changed = 2"), archive("changed = 1", more={SHARED: "changed = 2"})])
def test_what_another_collection_brings_by_the_same_name_is_not_run_by_the_process_of_this_one(start: Start, other: str) -> None:
    """The collection was edited, or upgraded. What has changed has the same size."""
    start.run()
    start.opened()
    one = archive("changed = 1", more={SHARED: "changed = 1"})
    before = start.run(module=NAME, packed=one)
    assert before["forked"]
    door = start.doors()[0].stat().st_ino
    assert not start.run(module=NAME, packed=other)["forked"]
    eventually(lambda: start.doors()[0].stat().st_ino != door)
    # From now on the other is what is imported, and that before is not.
    after = start.run(module=NAME, packed=other)
    assert after["forked"] and after["parent"] != before["parent"]
    assert not start.run(module=NAME, packed=one)["forked"]


def test_a_module_that_cannot_be_imported_starts_as_anywhere(start: Start) -> None:
    start.run()
    start.opened()
    told = start.run(module=NAME, packed=archive("raise ValueError"))
    assert not told["forked"] and told["process"] == told["asked"] and told["code"] == 0, told["err"]


@pytest.mark.parametrize("damaged", ["", "AAAA", "A", ARCHIVE[:-40], OTHER_ENTRIES])
def test_an_archive_that_cannot_be_read_starts_as_anywhere(start: Start, damaged: str) -> None:
    start.run()
    start.opened()
    told = start.run(module=NAME, packed=damaged)
    assert not told["forked"] and told["code"] == 0 and not told["err"] and len(start.doors()) == 1


# As respawn_module of Ansible does it: the archive has grown, and the source of what was imported is asked for.
INNER = """import json, os, sys
given = dict(
module_fqn={module!r},
modlib_path={own!r},
)
"""
OLDER_INNER = """import json, os, sys
module_fqn = {module!r}
modlib_path = {own!r}
"""
ENDS = """
print(json.dumps(["{loader}" in sys.modules, os.getpid(), sys.stdin.read()]), flush=True)
sys.exit(7)
"""
GOES_ON = """import inspect, subprocess
own = os.path.abspath("grown.zip")
with zipfile.ZipFile(own, "w") as files:
    for name in {names!r}:
        files.writestr(name, "")
    files.writestr("sitecustomize.py", str(time.time()))
read, write = os.pipe()
os.write(write, {inner!r}.format(module={module!r}, own=own, loader={loader!r}).encode())
os.close(write)
code = subprocess.call([sys.executable, "--"], stdin=read)
print(loader and inspect.getsource(loader.run))
sys.exit(code)
"""


@pytest.mark.parametrize("inner", [INNER, OLDER_INNER], ids=["2.19", "2.18"])
def test_a_module_that_goes_on_in_another_python_has_a_process_there_too(start: Start, inner: str) -> None:
    loader = LOADER.removesuffix(".py").replace("/", ".")
    then = GOES_ON.format(module=NAME, names=packages(LOADER, OURS), loader=loader, inner=inner + ENDS)
    for forked in (False, True):
        told = start.run(then, module=NAME, packed=archive())
        assert told["code"] == 7 and told["forked"] is forked, told["err"]
        in_other, source = json.loads(told["rest_of_out"][0]), told["rest_of_out"][1]
        assert (in_other[0], in_other[2], source) == (forked, "", "def run(): pass" if forked else "None")
        assert in_other[1] != told["process"]
        start.opened(2)
        assert len(start.doors()) == 2


COMMAND = """import json, os, sys
imported = [name in sys.modules for name in ("jinja2.sandbox", "ansible.config.manager", "ansible.constants")]
import ansible, yaml
from ansible.utils.collection_loader._collection_finder import _meta_yml_to_dict as read
load, loads = yaml.load, []
yaml.load = lambda *given, **more: loads.append(given) or load(*given, **more)
with open(os.path.join(os.path.dirname(ansible.__file__), "config/ansible_builtin_runtime.yml"), "rb") as routes:
    routes = routes.read()
told = dict(
    forked=os.getpid() != int(os.environ["ASKED"]), argv=sys.argv, folder=os.getcwd(), rest=sys.stdin.read(), name=__name__,
    imported=imported, routes=[read(routes, ()), read(b"a: 1", ())], parsed=len(loads),
)
print(json.dumps(told), flush=True)
raise SystemExit({code!r})
"""


class Command:
    """A program of that name."""

    def __init__(self, start: Start, code: object) -> None:
        self.start = start
        self.path = start.folder / "ansible-playbook"
        self.path.write_text(COMMAND.format(code=code))

    def run(self, *arguments: str, files: tuple[int, ...] = (), pipelining: str = "1") -> tuple[dict[str, Any], int, str]:
        # A shell is replaced by the program, whose number it has then.
        done = subprocess.run(
            ["sh", "-c", 'ASKED=$$ exec "$@"', "sh", sys.executable, str(self.path), *arguments],
            input="given",
            capture_output=True,
            text=True,
            cwd=self.start.folder,
            env={**self.start.environment, "ANSIBLE_PIPELINING": pipelining},
            pass_fds=files,
            check=False,
            timeout=60,
        )
        return json.loads(done.stdout), done.returncode, done.stderr


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (4, 4), (None, 0), ("so it is", 1)])
def test_ansible_playbook_runs_in_a_fork_that_has_read_no_configuration(start: Start, code: object, ends: int) -> None:
    command = Command(start, code)
    arguments = ("-e", "one=\N{LATIN SMALL LETTER E WITH ACUTE} 2", "site.yml")
    alone, *end = command.run(*arguments)
    start.opened()
    forked, *end_of_fork = command.run(*arguments)
    assert (alone.pop("forked"), forked.pop("forked")) == (False, True)
    assert (alone.pop("imported"), forked.pop("imported")) == ([False] * 3, [True, True, False])
    # The routes of ansible.builtin are read before, and no others.
    assert (alone.pop("parsed"), forked.pop("parsed")) == (2, 1) and "plugin_routing" in forked["routes"][0]
    assert alone == forked and end == end_of_fork == [ends, f"{code}\n" if isinstance(code, str) else ""]
    assert forked["argv"] == [str(command.path), *arguments] and forked["rest"] == "given" and forked["name"] == "__main__"
    # What it holds besides would not be passed on.
    with command.path.open() as file:
        assert not command.run(files=(file.fileno(),))[0]["forked"]
    # Where secrets are looked for, all is as anywhere.
    assert not command.run(pipelining="0")[0]["forked"]
    # And no module is run by a process that is there for another thing.
    assert not start.run()["forked"]


def test_a_process_that_a_module_forks_does_not_end_it(start: Start) -> None:
    start.run()
    start.opened()
    told = start.run("if not os.fork(): sys.exit(0)\nos.wait()\ntime.sleep(0.2)\nprint('later', flush=True)\nsys.exit(4)")
    assert told["forked"] and told["code"] == 4 and told["rest_of_out"] == ["the end", "later", "the end"]


def test_another_version_or_start_of_python_has_a_process_of_its_own(start: Start) -> None:
    for number, options in enumerate(({}, {"version": "3"}, {"LANG": "C"}, {"TZ": "Asia/Tokyo"}, {"PYTHONHASHSEED": "7"}), start=1):
        assert not start.run(**options)["forked"]
        start.opened(number)
        assert start.run(**options)["forked"]


def test_who_is_killed_takes_the_fork_along(start: Start) -> None:
    start.run()
    start.opened()
    asking = start.begin("time.sleep(600)")
    assert asking.stdout and asking.stderr
    told = json.loads(asking.stdout.readline())
    assert told["forked"]
    asking.kill()
    asking.wait()
    eventually(lambda: not Path(f"/proc/{told['process']}").exists())
    asking.stdout.close()
    asking.stderr.close()


def test_a_fork_that_is_killed_has_run_once(start: Start) -> None:
    start.run()
    start.opened()
    told = start.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert told["forked"] and told["code"] == 128 + signal.SIGKILL and not told["rest_of_out"]


def test_a_process_that_nobody_asks_ends(start: Start) -> None:
    start.write(start.code.replace("IDLE = 120 ", "IDLE = 2 "))
    start.run()
    start.opened()
    eventually(lambda: not start.doors())
    assert not start.run()["forked"]


def test_one_that_was_killed_is_replaced(start: Start) -> None:
    start.run()
    start.opened()
    os.kill(start.run()["parent"], signal.SIGKILL)
    dead = start.doors()[0].stat().st_ino
    eventually(lambda: not start.run()["forked"])
    eventually(lambda: start.doors()[0].stat().st_ino != dead)
    assert start.run()["forked"]
