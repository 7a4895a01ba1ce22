# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A reload of nginx puts another process in its place. tests/gateway has the real one: here a script plays its signals and files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from consumer_host import SCRIPT, Host
from eventually import eventually

# A double of nginx: at USR2 another one with its own number in the file, at QUIT it ends after its clients. It takes one USR2 at a time.
NGINX = """#!/bin/sh
case "$*" in *-t*)
  # It handles TERM, and waits on.
  [ ! -e {home}/waits ] || {{ trap : TERM; while :; do sleep 0.05; done; }}
  test ! -e {home}/broken; exit ;;
esac
file={home}/nginx.pid child=
while [ -e $file.oldbin ] && [ -e {home}/hangs ]; do sleep 0.05; done
follow() {{
  [ ! -e {home}/stuck ] && [ -z "$child" ] || return
  mv $file $file.oldbin
  # A shell has what it starts so ignore QUIT.
  env --default-signal=QUIT $0 &
  child=$!
}}
end() {{
  while [ -e {home}/clients ]; do sleep 0.05; done
  rm -f $file.oldbin
  exit
}}
trap follow USR2
trap end QUIT
trap 'echo $$ >>{home}/hup' HUP
echo $$ >$file
while :; do
  sleep 0.05
  if [ -n "$child" ] && ! kill -0 $child 2>/dev/null; then
    mv $file.oldbin $file
    child=
  fi
done
"""
# A second passes whenever it is asked.
DATE = """#!/bin/sh
echo >>{home}/seconds
wc -l <{home}/seconds
"""
# A hundredth of the time that it is given.
TIMEOUT = """#!/bin/sh
kill=
[ "$1" != -k ] || { kill='-k 0.05'; shift 2; }
shift
exec /usr/bin/timeout $kill 0.3 "$@"
"""


class Web:
    """A host whose nginx runs."""

    def __init__(self, host: Host) -> None:
        self.host, self.home = host, host.home
        self.file, self.old = self.home / "nginx.pid", self.home / "nginx.pid.oldbin"
        self.reads = self.home / "run/keyfleet-consumers/web/reads"
        host.program("nginx", NGINX.format(home=self.home))
        host.has("nginx", "web", keys=[{"label": "host", "certificate": "/srv/a"}])
        self.name = self.home / "etc/keyfleet-consumers/web/nginx"
        self.name.symlink_to(self.home / "programs/nginx")
        (self.home / "process").write_text(f"{self.file}\n")
        self.reads.parent.mkdir(parents=True)
        self.start(self.name)

    def start(self, program: Path) -> None:
        # What runs in the background may ignore QUIT, and so would a shell that it starts.
        self.started = subprocess.Popen(["env", "--default-signal=QUIT", str(program)], start_new_session=True)
        eventually(lambda: self.process == self.started.pid)

    def pauses(self, seconds: float) -> None:
        self.host.program("sleep", f"#!/bin/sh\nexec /usr/bin/sleep {seconds}\n")

    def in_a_hurry(self) -> None:
        """What it waits for in vain it gives up soon. Where something has to come, it must have the time of a machine that is busy."""
        self.pauses(0.01)
        self.host.program("date", DATE.format(home=self.home))

    def at_ease(self) -> None:
        for name in ("sleep", "date"):
            (self.home / "programs" / name).unlink()

    @property
    def process(self) -> int:
        return int(self.file.read_text() or 0) if self.file.exists() else 0

    @property
    def hup(self) -> list[int]:
        log = self.home / "hup"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def reload(self) -> subprocess.CompletedProcess[str]:
        self.reads.unlink(missing_ok=True)
        self.reads.with_name("reads.given").write_text("as the guard leaves it")
        return self.host.run("reopen", "web")


def cmdline(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def runs(process: int) -> bool:
    """One that ended and that nobody asked for its end has no command line any more."""
    return bool(cmdline(process))


@pytest.fixture
def web() -> Iterator[Web]:
    with tempfile.TemporaryDirectory(prefix="kf") as folder:
        made = Web(Host.made(Path(folder)))
        try:
            yield made
        finally:
            os.killpg(made.started.pid, signal.SIGKILL)
            made.started.wait()


def test_no_program_that_asks_the_hsm_is_waited_for_for_ever() -> None:
    """nginx handles TERM, and a library that waits for its HSM goes on with that."""
    limits = re.findall(r"\btimeout (.*)", re.sub(r"(?m)^ *#.*", "", SCRIPT.read_text()))
    assert len(limits) > 6 and [limit for limit in limits if not limit.startswith("-k 5 ")] == []


def test_another_process_takes_the_place_of_the_one_before(web: Web) -> None:
    before = web.process
    done = web.reload()
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert web.process not in (0, before) and runs(web.process) and not runs(before)
    assert web.reads.exists() and not web.old.exists() and web.hup == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("broken", "refuses its configuration or its keys"),
        ("waits", "refuses its configuration or its keys"),
        ("stuck", "no other nginx was started"),
    ],
)
def test_a_reload_that_does_not_succeed_fails_and_is_due_again(web: Web, fault: str, said: str) -> None:
    before = web.process
    web.host.program("timeout", TIMEOUT)
    web.in_a_hurry()
    (web.home / fault).touch()
    done = web.reload()
    assert done.returncode == 1 and said in done.stderr and "goes on with what it has" in done.stderr
    assert web.process == before and runs(before) and not web.reads.exists()


def test_one_that_still_serves_clients_is_not_cut_off(web: Web) -> None:
    before = web.process
    (web.home / "clients").touch()
    # The next process comes in this time, and the end of the one before does not.
    web.pauses(0.03)
    first, new = web.reload(), web.process
    assert first.returncode == 0 and f"({before}) still serves clients, and ends with the last of them" in first.stderr
    again = web.reload()
    assert again.returncode == 0 and "may not find a key younger than itself" in again.stderr
    # What it may not have found is still owed.
    assert not web.reads.exists()
    assert web.process == new and runs(before) and runs(new)
    eventually(lambda: web.hup == [new])
    (web.home / "clients").unlink()
    eventually(lambda: not web.old.exists())
    assert web.reload().returncode == 0 and web.process != new and web.hup == [new] and web.reads.exists()


def test_one_that_hangs_is_ended_and_the_next_reload_succeeds(web: Web) -> None:
    before = web.process
    (web.home / "hangs").touch()
    web.in_a_hurry()
    done = web.reload()
    assert done.returncode == 1 and "has not opened its keys in time" in done.stderr and "no other nginx was started" in done.stderr
    assert web.process == before and not web.reads.exists()
    (web.home / "hangs").unlink()
    web.at_ease()
    assert web.reload().returncode == 0 and web.process not in (0, before)


def test_one_that_hangs_since_a_run_was_cut_off_is_ended_first(web: Web) -> None:
    before = web.process
    children = Path(f"/proc/{before}/task/{before}/children")
    (web.home / "hangs").touch()
    os.kill(before, signal.SIGUSR2)

    # A shell that is about to become another program has the name of the one that starts it: what is there twice stays.
    looks: list[set[int]] = [set()]

    def stays() -> set[int]:
        looks.append({each for each in map(int, children.read_text().split()) if b"keyfleet-consumers" in cmdline(each)})
        return looks[-1] & looks[-2]

    eventually(lambda: web.old.exists() and bool(stays()))
    [first] = looks[-1] & looks[-2]
    # nginx -t makes an empty one.
    web.file.touch()
    web.in_a_hurry()
    done = web.reload()
    # So does the next one, which is ended as well.
    assert done.returncode == 1 and f"nginx {first} has not opened its keys in time" in done.stderr, done.stderr
    assert web.process == before and not runs(first)


def test_an_old_number_that_is_the_running_one_ends_nothing(web: Web) -> None:
    before = web.process
    web.old.write_text(f"{before}\n")
    assert web.reload().returncode == 0 and web.process not in (0, before) and runs(web.process)


def test_a_change_that_was_cut_off_is_ended_first(web: Web) -> None:
    before = web.process
    os.kill(before, signal.SIGUSR2)
    eventually(lambda: web.process not in (0, before))
    between = web.process
    assert runs(before)
    assert web.reload().returncode == 0 and web.hup == []
    assert not runs(before) and not runs(between) and runs(web.process)


def test_one_that_was_started_by_another_name_would_hand_on_its_connections(web: Web) -> None:
    os.killpg(web.started.pid, signal.SIGKILL)
    web.started.wait()
    web.start(web.home / "programs/nginx")
    before = web.process
    done = web.reload()
    assert done.returncode == 0 and "nginx was not started by" in done.stderr and web.process == before
    eventually(lambda: web.hup == [before])


def test_connections_are_not_handed_on_and_the_sockets_are(tmp_path: Path) -> None:
    name = tmp_path / "nginx"
    name.write_text((SCRIPT.parent / "nginx.sh").read_text().replace("/usr/sbin/nginx", "/bin/sh"))
    name.chmod(0o755)
    handed = [os.dup(0) for _turn in range(300)]
    kept = sorted({handed[3], handed[290]})
    for each in handed:
        os.set_inheritable(each, True)
    try:
        # As nginx does it: its variable names the sockets, and the first argument is the name by which it was started.
        command = [str(name), "-c", 'echo "$0 $1"; ls /proc/$$/fd', str(name), "more"]
        given = {"NGINX": f"{kept[0]};{kept[1]};", "PATH": os.environ["PATH"]}
        done = subprocess.run(command, env=given, close_fds=False, capture_output=True, text=True, check=True)
    finally:
        for each in handed:
            os.close(each)
    assert done.stdout.splitlines()[0] == f"{name} more"
    assert {int(line) for line in done.stdout.splitlines()[1:]} - {0, 1, 2} == set(kept)


def test_a_unit_that_follows_no_file_gets_the_signal_of_a_reload(web: Web) -> None:
    before = web.process
    show = "#!/bin/sh\ncase $* in *MainPID*) echo {} ;; *PIDFile*) echo ;; esac\n"
    web.host.program("systemctl", show.format(0))
    done = web.reload()
    assert done.returncode == 1 and "has no process" in done.stderr
    web.host.program("systemctl", show.format(before))
    assert web.reload().returncode == 0 and web.process == before
    eventually(lambda: web.hup == [before])


def test_a_number_of_another_program_gets_no_signal(web: Web) -> None:
    web.file.write_text(f"{os.getpid()}\n")
    done = web.reload()
    assert done.returncode == 1 and "names no process of nginx" in done.stderr
    web.file.write_text(f"{web.started.pid}\n")
    web.old.write_text(f"{os.getpid()}\n")
    assert web.reload().returncode == 0 and web.process != web.started.pid
