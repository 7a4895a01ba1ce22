# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hsm_sync killed while it writes: the registry opens, is whole, has all of the run's changes or none, and the next run completes.

SIGKILL leaves what was handed to the kernel, so it is the calls that change files which make a difference. A library that is
preloaded counts them from the beginning of the run's transaction, and kills the process at one of them, or some time after the
beginning. The token was read and closed before: a SIGKILL in SoftHSM's C_Login may cost the token, which no caller can mend.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from forked import Server
from hsm_fixture import Hsm, ok

NUMBER, PARTS, ROUNDS = 200, 5, 20
FILES = ("registry.db", "registry.db-wal", "registry.db-shm")

# CUT_FOLDER: files below it count. CUT_LOG: a line for each call. CUT_AT: die at this call, CUT_HOW: b(efore), h(alf) done,
# a(fter). CUT_MICROSECONDS: die that long after the beginning. The first write lock of all is that of opening the registry.
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int locks, count;
static struct timespec start;

static const char *setting(const char *name) { const char *value = getenv(name); return value ? value : ""; }

static int is_watched(const char *path) {
    const char *folder = setting("CUT_FOLDER");
    return *folder && !strncmp(path, folder, strlen(folder));
}

static const char *watched(int descriptor) {
    static char path[4096];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    return is_watched(path) ? path : 0;
}

static void die(void) { for (;;) kill(getpid(), SIGKILL); }

static void note(const char *what, const char *path) {
    struct timespec moment;
    char line[4200];
    clock_gettime(CLOCK_MONOTONIC, &moment);
    long passed = (moment.tv_sec - start.tv_sec) * 1000000 + (moment.tv_nsec - start.tv_nsec) / 1000;
    int length = snprintf(line, sizeof line, "%ld %s %s\n", passed, what, path);
    int log = open(setting("CUT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    syscall(SYS_write, log, line, length);
    close(log);
}

/* 0: go on. Otherwise how to die. */
static char step(const char *what, const char *path) {
    if (locks < 2 || !path) return 0;
    note(what, path);
    char how = ++count == atoi(setting("CUT_AT")) ? *setting("CUT_HOW") : 0;
    if (how == 'b') die();
    return how;
}

static void begin(const char *path) {
    if (++locks != 2) return;
    clock_gettime(CLOCK_MONOTONIC, &start);
    note("begin", path);
    long microseconds = atol(setting("CUT_MICROSECONDS"));
    if (microseconds) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        struct itimerspec when = {.it_value = {microseconds / 1000000, microseconds % 1000000 * 1000}};
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, 0)) abort();
    }
}

int fcntl64(int descriptor, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int answer = REAL(fcntl64)(descriptor, command, argument);
    const struct flock *lock = argument;
    if (command == F_SETLK && !answer && lock->l_type == F_WRLCK && lock->l_start == 120) { /* SQLite's WAL_WRITE_LOCK */
        const char *path = watched(descriptor);
        if (path) begin(path);
    }
    return answer;
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) {
    char how = step("write", watched(descriptor));
    ssize_t answer = REAL(pwrite64)(descriptor, data, how == 'h' ? size / 2 : size, at);
    if (how) die();
    return answer;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    char how = step("write", watched(descriptor));
    ssize_t answer = REAL(write)(descriptor, data, how == 'h' ? size / 2 : size);
    if (how) die();
    return answer;
}

#define WHOLE(declaration, what, path, call) \
    declaration { char how = step(what, path); int answer = call; if (how) die(); return answer; }

WHOLE(int ftruncate64(int descriptor, off64_t size), "truncate", watched(descriptor), REAL(ftruncate64)(descriptor, size))
WHOLE(int fsync(int descriptor), "sync", watched(descriptor), REAL(fsync)(descriptor))
WHOLE(int fdatasync(int descriptor), "sync", watched(descriptor), REAL(fdatasync)(descriptor))
WHOLE(int unlink(const char *path), "unlink", is_watched(path) ? path : 0, REAL(unlink)(path))
WHOLE(int rename(const char *old, const char *new), "rename", is_watched(new) ? new : 0, REAL(rename)(old, new))
"""


@dataclass(frozen=True)
class Cut:
    """When to die: at a call that changes a file, or so many microseconds after the beginning."""

    at: int = 0
    how: str = ""
    microseconds: int = 0


@dataclass
class Site:
    """An HSM with all keys, and the files as they are before each round."""

    hsm: Hsm
    library: str
    counted: Server  # which has that library before all others

    @property
    def files(self) -> Path:
        """The registry and the exported file, and nothing else."""
        return self.hsm.scratch / "files"

    @property
    def registry(self) -> str:
        return str(self.files / "registry.db")

    @property
    def export(self) -> Path:
        return self.files / "keys.yml"

    @property
    def log(self) -> Path:
        return self.hsm.scratch / "calls"

    def keep(self, name: str) -> None:
        """Remember the files as they are now. The token stays: no run here writes to it."""
        shutil.copytree(self.files, self.hsm.scratch / name)

    def restore(self, name: str) -> None:
        shutil.rmtree(self.files)
        shutil.copytree(self.hsm.scratch / name, self.files)

    def sync(self, **args: Any) -> dict[str, Any]:
        return ok(self.hsm.run("hsm_sync", registry=self.registry, group="payments", **args))

    def killed(self, cut: Cut, **args: Any) -> bool:
        """A sync that dies as ``cut`` says; False where it ended before."""
        settings = {"FOLDER": f"{self.files}/", "LOG": self.log, "AT": cut.at, "HOW": cut.how, "MICROSECONDS": cut.microseconds}
        self.log.unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LD_PRELOAD", self.library)
            for name, value in settings.items():
                patch.setenv(f"CUT_{name}", str(value))
            process = replace(self.hsm, server=self.counted).fork("hsm_sync", {"registry": self.registry, "group": "payments", **args})
        output = process.communicate(timeout=120)[0]
        died = '"library_crashed"' in output
        assert died or '"failed"' not in output, (cut, output)
        return died

    def calls(self) -> list[tuple[int, str]]:
        """Microseconds and name of the calls that were logged."""
        found = [line.split(" ", 1) for line in self.log.read_text().splitlines()]
        return [(int(passed), call.replace(f"{self.files}/", "")) for passed, call in found]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What SQLite makes of the registry: of a copy, so that the next sync meets what was left."""
        look = self.hsm.scratch / "look"
        shutil.rmtree(look, ignore_errors=True)
        look.mkdir()
        for name in FILES[:2]:
            if (self.files / name).exists():
                shutil.copy(self.files / name, look)
        with closing(sqlite3.connect(look / FILES[0])) as registry:
            assert registry.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return registry.execute(query).fetchall()

    def records(self) -> list[tuple[Any, ...]]:
        """Every virtual key but for its own random id, and the events of them."""
        keys = "SELECT kind, key_id, label, type, size, operations, origin, state, fingerprint, group_id FROM virtual_key"
        events = "SELECT action, subject, details FROM event WHERE action LIKE '%_key'"
        return [*sorted(self.rows(keys)), *sorted(self.rows(events))]

    def wal_size(self) -> int:
        wal = self.files / FILES[1]
        return wal.stat().st_size if wal.exists() else 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All keys made once, through another registry: the one that is tested knows none of them."""
    scratch = tmp_path_factory.mktemp("crash").resolve()
    for folder in ("tokens", "files"):
        (scratch / folder).mkdir()
    (scratch / "softhsm2.conf").write_text(f"directories.tokendir = {scratch}/tokens\nlog.level = ERROR\n")
    source, library = scratch / "cut.c", scratch / "libcut.so"
    source.write_text(LIBRARY)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-nonnull-compare", "-o", library, source, "-ldl", "-lrt"], check=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        site = Site(Hsm(scratch), str(library), Server())
    hsm = site.hsm
    hsm.register()
    ok(hsm.keys(*({"label": f"key-{number % PARTS}{number // PARTS:02}", "type": "AES"} for number in range(NUMBER))))
    hsm.register(registry=site.registry)
    ok(hsm.run("hsm_group", registry=site.registry, name="payments", connections=[{"instance": "primary"}]))
    site.keep("empty")
    yield site
    site.counted.close()


def cuts(calls: list[tuple[int, str]], at_calls: int, by_time: int) -> list[Cut]:
    """Random moments, one in each of equal parts: of the calls, and of the time from the beginning to the last of them."""
    draw = random.SystemRandom()
    last, end = len(calls) - 1, calls[-1][0]
    found = [Cut(1 + int((part + draw.random()) * last / at_calls), draw.choice("bha")) for part in range(at_calls)]
    found += [Cut(microseconds=1 + int((part + draw.random()) * end / by_time)) for part in range(by_time)]
    draw.shuffle(found)
    return found


def test_a_sync_killed_at_any_moment_of_its_write(site: Site) -> None:
    tries = []
    for _try in range(3):
        site.restore("empty")
        assert site.killed(Cut()) is False
        tries.append(site.calls())
    calls = min(tries, key=lambda found: found[-1][0])  # the one that other programs held up least
    assert calls[0][1].startswith("begin"), calls[0]
    assert sum(call == "write registry.db-wal" for _passed, call in calls) > 20, "the write is too small to be cut off in the middle"
    whole = site.records()
    died = nothing = part = everything = 0
    for number, cut in enumerate(cuts(calls, 16, ROUNDS - 16)):
        site.restore("empty")
        where = f"round {number}, {cut}"
        died += site.killed(cut)
        begun = site.log.exists()
        left = site.wal_size()
        records = site.records()
        assert records in ([], whole), f"{where}: {len(records)} records and events instead of none or {len(whole)}"
        nothing += begun and not records and not left
        part += begun and not records and left > 0
        everything += begun and bool(records)
        known = NUMBER if records else 0
        expected = {"added": NUMBER - known, "known": known, "missing": 0, "drifted": 0}
        summary = site.sync()["summary"]
        assert {name: summary[name] for name in expected} == expected, where
        assert site.records() == whole, where
        if number % 5 == 0:
            assert site.sync()["changed"] is False, where
    spread = f"{died} of {ROUNDS} died; of those that began to write, {nothing} had written nothing, {part} a part, {everything} all"
    assert died >= 16 and nothing >= 1 and part >= 4 and everything >= 2, spread


@pytest.fixture
def edited(site: Site) -> Site:
    """A registry with records to restore, to remove and to add, and an exported file with other names."""
    site.restore("empty")
    site.sync(export=str(site.export))
    site.export.write_bytes(site.export.read_bytes().replace(b"key-1", b"old-1"))
    with closing(sqlite3.connect(site.registry)) as registry:
        registry.execute("CREATE TEMP TABLE gone AS SELECT * FROM virtual_key WHERE label LIKE 'key-1%'")
        registry.execute(
            "UPDATE gone SET id = 'gone-' || id, key_id = CAST(x'ff' || key_id AS BLOB), label = 'gone-' || label, fingerprint = NULL"
        )
        registry.execute("INSERT INTO virtual_key SELECT * FROM gone")
        registry.execute("UPDATE virtual_key SET label = 'edited-' || label WHERE label LIKE 'key-2%'")
        registry.execute("DELETE FROM virtual_key WHERE label LIKE 'key-3%'")
        registry.execute("DELETE FROM event")
        registry.commit()
    shutil.rmtree(site.hsm.scratch / "edited", ignore_errors=True)
    site.keep("edited")
    return site


def test_a_sync_that_restores_removes_and_exports_killed_at_any_moment(edited: Site) -> None:
    site, wanted = edited, {"refresh": ["label"], "prune": True, "export": str(edited.export)}
    before, exported = site.records(), site.export.read_bytes()
    assert site.killed(Cut(), **wanted) is False
    after, export = site.records(), site.export.read_bytes()
    actions = ["add_key", "prune_key", "refresh_key"]
    assert sorted({row[0] for row in after[NUMBER:]}) == actions and len(after) == NUMBER + 3 * NUMBER // PARTS and export != exported
    calls = site.calls()
    of_export = [number for number, (_passed, call) in enumerate(calls) if number and not call.split(" ")[1].startswith("registry.db")]
    assert len(of_export) >= 3, calls
    found = {"nothing": 0, "the registry": 0, "both": 0}
    for number, cut in enumerate([*cuts(calls, 8, 2), *(Cut(call, how) for call in of_export for how in "bha")]):
        site.restore("edited")
        where = f"round {number}, {cut}"
        site.killed(cut, **wanted)
        registry, file = site.records(), site.export.read_bytes()
        assert registry in (before, after) and file in (exported, export), where
        state = {(True, True): "nothing", (False, True): "the registry", (False, False): "both"}.get((registry == before, file == exported))
        assert state, f"{where}: the file tells what the registry does not know"
        found[state] += 1
        assert site.sync(**wanted)["changed"] is (state != "both"), where
        assert (site.records(), site.export.read_bytes()) == (after, export), where
        if number % 5 == 0:
            assert site.sync(**wanted)["changed"] is False, where
    assert min(found.values()) >= 3, found
