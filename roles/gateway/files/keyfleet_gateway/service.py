# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running service: its listeners, one task for each instance that probes it again and again, and what signals do."""

from __future__ import annotations

import asyncio
import random
import signal
import ssl
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import KeyfleetError

from . import origins, schedule
from .asking import ProbeError, ask
from .board import Board, Seen, named
from .config import Config, ConfigError, path_of, read_config
from .journal import ERROR, INFO, NOTICE, WARNING, log
from .keys import read_facts
from .known import Compared, Known, Member, certificates_after
from .listeners import Listeners
from .memory import registry_path, remember
from .metrics import Metrics
from .notify import notify, reloading, watchdog_seconds
from .page import Page
from .tls import context_of, ends_at
from .web import Site, application

_FACTS_SECONDS = 60.0  # between two readings of the registry's copy
_CERTIFICATES_SECONDS = 3600.0  # between two looks at the certificates of an instance
_COMPARE_SECONDS = 2.0  # between two looks whether a group is due
_GROUP_SECONDS, _GROUP_AGAIN_SECONDS = 3600.0, 300.0  # between two comparisons of a group: after one of all members, and after another
_COMPARE_DEADLINE = 120.0  # seconds that a comparison has at least: it reads all keys
_FEWEST_TOKEN_BYTES = 16
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Ready:
    """A configuration with all that it names, read and found good."""

    config: Config
    origins: dict[str, str]
    token: bytes | None
    context: ssl.SSLContext | None
    digest: str = ""  # SHA-256 of the file

    @property
    def status(self) -> str:
        """For systemd: by its end the role sees which configuration is in force."""
        return f"STATUS=Probing {len(self.config.instances)} instances by configuration {self.digest[:12]}"


def prepare(path: str) -> Ready:
    """Read the configuration and what it names. Asks no HSM, and writes nothing. Raises :class:`ConfigError`."""
    config = read_config(path)
    context = context_of(config.https, path_of) if config.https else None
    return Ready(config, origins.read(config), _bearer_token(config), context, sha256(Path(path).read_bytes()).hexdigest())


def _bearer_token(config: Config) -> bytes | None:
    if config.token_file is None:
        return None
    path = path_of(config.token_file)
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError([f"token_file: {path} cannot be read: {error.strerror}"]) from None
    if len(token) < _FEWEST_TOKEN_BYTES or len(token.split()) != 1:
        raise ConfigError([f"token_file: {path} must hold one word of at least {_FEWEST_TOKEN_BYTES} characters"])
    return token


@dataclass
class Service:
    """``path`` is that of the configuration."""

    path: str
    ready: Ready
    known: Known = field(default_factory=lambda: Known(Board(0.0)))
    page: Page = field(default_factory=Page)
    site: Site | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _taken: float = 0.0  # when the configuration came into force, by the monotonic clock

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises :class:`ConfigError`, OSError when it cannot start."""
        loop, stopping, reloads = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, reloads.set)
        runner = web.AppRunner(application(self._site), handle_signals=False)
        await runner.setup()
        if runner.server is None:
            raise RuntimeError("the runner was not set up")
        listeners = Listeners(runner.server)
        try:
            await self._take(self.ready, listeners)
            notify("READY=1", self.ready.status)
            alive = asyncio.create_task(self._alive())
            while not stopping.is_set():
                waiting: set[asyncio.Task[Any]] = {asyncio.create_task(event.wait()) for event in (stopping, reloads)}
                await asyncio.wait({*waiting, *self._tasks, alive}, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                for task in (*self._tasks, alive):
                    if task.done():
                        task.result()  # a defect of ours: better to end, and be started again, than to tell what is old
                if reloads.is_set():
                    reloads.clear()
                    await self._reload(listeners)
            notify("STOPPING=1")
            alive.cancel()
        finally:
            await self._end_tasks()
            listeners.close()
            await runner.cleanup()
        log(INFO, "stopped")

    async def _alive(self) -> None:
        """systemd's watchdog: as long as this task is run, the others are."""
        seconds = watchdog_seconds()
        while True:
            if seconds is not None:
                notify("WATCHDOG=1")
            await asyncio.sleep(seconds or 3600)

    def _site(self) -> Site:
        if self.site is None:
            raise RuntimeError("asked before the service was ready")
        return self.site

    async def _take(self, ready: Ready, listeners: Listeners) -> None:
        """Make this the configuration that is in force. Raises :class:`KeyfleetError`, OSError, and then the one before stays."""
        await self._end_tasks()
        try:
            async with listeners.becoming(ready.config, ready.context):
                await asyncio.to_thread(remember, ready.config, path_of)
                self.ready, self._taken = ready, time.monotonic()
                longest = max(_deadline(ready.config, len(spec.tokens)) for spec in ready.config.instances)
                stale_after = schedule.stale_after(ready.config.interval, longest)
                self.known = self.known.stays(Board.of(ready.config.instances, stale_after, self.known.board))
                end = ends_at(ready.config.https, path_of) if ready.config.https else None
                self.known.certificate_end = end.timestamp() if end else None
                self.site = Site(self.known, ready.config, Metrics(self.known), self.page, ready.token)
        finally:
            self._tasks = [asyncio.create_task(self._watch(name, place)) for place, name in enumerate(self.known.board.entries)]
            self._tasks.append(asyncio.create_task(self._read_facts()))
            self._tasks.append(asyncio.create_task(self._compare()))

    async def _reload(self, listeners: Listeners) -> None:
        """A configuration that is wrong changes nothing, and neither does one whose addresses cannot be had."""
        reloading()
        problems: list[str] = []
        try:
            await self._take(await asyncio.to_thread(prepare, self.path), listeners)
            log(NOTICE, "reloaded", instances=len(self.known.board.entries))
        except ConfigError as error:
            problems = error.problems
        except (KeyfleetError, OSError) as error:
            problems = [str(error)]
        for problem in problems:
            log(ERROR, f"not reloaded: {problem}")
        notify("READY=1", f"{self.ready.status}; the last reload failed, see the journal" if problems else self.ready.status)

    async def _end_tasks(self) -> None:
        """A probe that is under way comes to its end: a SoftHSM2 whose login is cut off may lose its token."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    async def _read_facts(self) -> None:
        while True:
            config = self.ready.config
            facts = self.known.facts = await asyncio.to_thread(read_facts, config.registry, config.rotations)
            if facts.readable:
                self.known.groups = {name: compared for name, compared in self.known.groups.items() if name in facts.groups}
            await asyncio.sleep(_FACTS_SECONDS)

    async def _watch(self, name: str, place: int) -> None:
        """Probe one instance again and again. A probe that hangs delays this instance alone."""
        config = self.ready.config
        await asyncio.sleep(schedule.first_delay(place))
        while True:
            begun = time.monotonic()
            await _to_its_end(self._probe(config, name))
            await asyncio.sleep(schedule.next_delay(config.interval, time.monotonic() - begun, _RANDOM.random))

    async def _compare(self) -> None:
        """Compare the members of each group now and then, those whose tokens are known to work: no login is made in vain."""
        config = self.ready.config
        while True:
            await asyncio.sleep(_COMPARE_SECONDS)
            for group, members in self.known.facts.groups.items():
                before = self.known.groups.get(group)
                pause = _GROUP_SECONDS if before is not None and before.whole else _GROUP_AGAIN_SECONDS
                due = before is None or self._is_old(before.read, pause)
                if due and all(name in self.known.board.entries and self.known.board.works(name) for name, _token in members):
                    await _to_its_end(self._compare_group(config, group, members))

    def _is_old(self, moment: float, seconds: float) -> bool:
        """Whether what was read then is to be read again: after its time, and once under each configuration."""
        return moment < self._taken or time.monotonic() - moment > seconds

    async def _compare_group(self, config: Config, group: str, members: Sequence[tuple[str, str]]) -> None:
        request = {"group": group, "registry": registry_path(config), "copy": config.registry, "origins": self.ready.origins}
        try:
            told = await ask(request, max(_deadline(config, len(members)), _COMPARE_DEADLINE))
        except ProbeError as error:
            unread = tuple(Member(instance, token, error=str(error)) for instance, token in members)
            self.known.groups[group] = Compared(time.monotonic(), unread, error=str(error))
        else:
            members_told = tuple(Member(**member) for member in told["members"])
            self.known.groups[group] = Compared(time.monotonic(), members_told, told["keys"], tuple(told["labels"]))

    async def _probe(self, config: Config, name: str) -> None:
        read = self.known.certificates.get(name)
        request = {
            "registry": registry_path(config),
            "instance": name,
            "kind": config.kind,
            "timeout": config.timeout,
            "origins": self.ready.origins,
            "certificates": read is None or any(read.errors) or self._is_old(read.read, _CERTIFICATES_SECONDS),
        }
        begun = time.monotonic()
        try:
            told = await ask(request, _deadline(config, len(self.known.board.entries[name].tokens)))
        except ProbeError as error:
            now = time.monotonic()
            changes = self.known.board.note_failure(name, str(error), error.code, now=now, took=now - begun)
        else:
            now = time.monotonic()
            changes = self.known.board.note(name, told["slots"], now=now, took=now - begun)
            if "certificates" in told:
                self._note_certificates(name, told["certificates"], now)
        entry = self.known.board.entries[name]
        for place, after in changes:
            _tell(entry.prefix, name, named(entry.spec.tokens[place].selector, after.slot), after)

    def _note_certificates(self, name: str, told: Sequence[Mapping[str, Any]], now: float) -> None:
        before = self.known.certificates.get(name)
        after = self.known.certificates[name] = certificates_after(before, told, now)
        entry = self.known.board.entries[name]
        for place, error in enumerate(after.errors):
            if error is not None and (before is None or before.errors[place] is None):
                token = named(entry.spec.tokens[place].selector, entry.tokens[place].slot)
                log(WARNING, f"certificates cannot be read: {error}", instance=name, prefix=entry.prefix, token=token)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when this task is cancelled: a login that is cut off may cost a SoftHSM2 its token."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _deadline(config: Config, tokens: int) -> float:
    """Seconds that a probe of an instance with so many tokens may take: each has its own time, and so have the start of the library and
    the look at certificates."""
    return config.timeout * (2 + tokens) + schedule.DEADLINE_MARGIN


def _tell(prefix: str | None, name: str, token: str, seen: Seen) -> None:
    slot = seen.slot
    fields = {"instance": name, "prefix": prefix, "token": token, "slot": slot["slot_id"], "serial": slot["serial"], "code": slot["code"]}
    if slot["accessible"]:
        log(NOTICE, "token is healthy", **fields)
    elif seen.healthy:
        log(WARNING, f"token counts as healthy, but could not be probed: {slot['error']}", **fields)
    else:
        log(ERROR, f"token is not healthy: {slot['error']}", **fields)
