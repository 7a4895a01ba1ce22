# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page shows, worked out from plain values: words and numbers, no HTML.

``tone`` of a value is ``good``, ``warn`` or ``bad``: the page never says by colour alone what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.keyfleet.hsm.plugins.module_utils._model.keys.states import ACTIVE
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.quoting import one_line

from .advice import advice
from .board import Board, Entry, Seen, named
from .known import Compared, Known

GOOD, WARN, BAD = "good", "warn", "bad"
MOST_ROWS = 50  # of rotations and certificates, the most urgent first; metrics have all
_DAY = 24 * 3600
_SOON = 30 * _DAY
_LONGEST = 600  # characters of an error
_OLD_COPY = 1800  # seconds, of six copies
_COPY_ADVICE = "See the journal of keyfleet-gateway-registry.service."

_UNPROBED = "Not probed yet"
_PIN = {
    "ok": ("In order", GOOD),
    "low": ("A wrong PIN was tried since the last good login", WARN),
    "final_try": ("One try left before it locks", BAD),
    "locked": ("Locked", BAD),
    "not_initialized": ("Not set", BAD),
    "to_be_changed": ("Has to be changed", WARN),
}


@dataclass(frozen=True)
class Error:
    """``over``: the token is accessible again."""

    text: str
    code: str
    advice: str
    since: str
    last: str
    over: bool


@dataclass(frozen=True)
class Token:
    name: str
    slot: str
    serial: str
    state: str
    tone: str
    pin: str
    pin_tone: str
    error: Error | None


@dataclass(frozen=True)
class Instance:
    """``probed`` says when, and how long it took."""

    name: str
    prefix: str
    model: str
    probed: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class KeyRow:
    """``counts`` says how many are in which state."""

    instance: str
    token: str
    type: str
    counts: str


@dataclass(frozen=True)
class Due:
    """A key that is to be rotated, or a certificate that ends. ``place`` is where it is, ``left`` how long it has."""

    name: str
    place: str
    date: str
    left: str
    tone: str


@dataclass(frozen=True)
class Dues:
    """The first of them, and how many ``more`` there are."""

    rows: tuple[Due, ...] = ()
    more: int = 0


@dataclass(frozen=True)
class MemberRow:
    instance: str
    token: str
    state: str
    tone: str


@dataclass(frozen=True)
class Group:
    name: str
    compared: str
    labels: str
    members: tuple[MemberRow, ...]


@dataclass(frozen=True)
class Task:
    """One thing to do, and ``how``. ``error`` is what a program said about it."""

    what: str
    how: str
    tone: str
    error: str = ""


@dataclass(frozen=True)
class View:
    """``registry``: whether its copy could be read, None where there is none; ``copied``: when that was made. ``oldest``: token and age of
    its oldest active key. ``read``: whether the certificates on all tokens are known."""

    healthy: bool
    verdict: str
    now: str
    tasks: tuple[Task, ...]
    instances: tuple[Instance, ...]
    registry: bool | None
    copied: str
    keys: tuple[KeyRow, ...] = ()
    count: int = 0
    oldest: tuple[tuple[str, str], ...] = ()
    rotations: Dues = field(default_factory=Dues)
    certificates: Dues = field(default_factory=Dues)
    read: bool = False
    groups: tuple[Group, ...] = ()


def plain(text: object) -> str:
    """A text of others on one line: what is not to be seen (and turns what follows around, for example) is spelled out."""
    return one_line(str(text))


def moment(seconds: float) -> str:
    """Seconds since 1970, for people."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def span(seconds: float) -> str:
    """``90`` is 90 s, ``7200`` is 2 h: the largest unit that there are two of."""
    for unit, size in (("d", _DAY), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


def view(known: Known, *, now: float, wall: float) -> View:
    """``now`` is by the monotonic clock, which the board has, ``wall`` the same moment in seconds since 1970."""
    board, facts = known.board, known.facts

    def at(then: float) -> str:
        return moment(wall - (now - then))

    entries = board.ordered()
    instances = tuple(_instance(board, entry, now, at) for entry in entries)
    rotations = _dues(
        (moment_due, label, f"group {group}" if group else f"instance {instance}")
        for (instance, group, label), moment_due in facts.rotations.items()
    )
    ends = {
        (end, label or key_id or "without a name", f"{token} on {instance}")
        for (instance, token, label, key_id), end in known.certificate_ends().items()
    }
    if known.certificate_end is not None:
        ends.add((known.certificate_end, "TLS certificate of this gateway", "gateway_cert_file"))
    certificates = _dues(ends)
    broken = sum(token.tone == BAD for instance in instances for token in instance.tokens)
    total = sum(len(instance.tokens) for instance in instances)
    return View(
        healthy=board.healthy(now),
        verdict=_verdict(broken, total),
        now=moment(wall),
        tasks=tuple(_tasks(known, instances, rotations, certificates, wall)),
        instances=instances,
        registry=facts.readable,
        copied="" if facts.copied is None else f"{moment(facts.copied)}, {span(wall - facts.copied)} ago",
        keys=tuple(_key_rows(facts.counts)),
        count=sum(facts.counts.values()),
        oldest=tuple(
            (f"{plain(token)} on {plain(name)}", span(wall - made)) for (name, token), made in sorted(facts.oldest_active.items())
        ),
        rotations=_shown(rotations, wall),
        certificates=_shown(certificates, wall),
        read=board.entries.keys() <= known.certificates.keys() and not any(known.certificate_errors().values()),
        groups=tuple(_group(name, known.groups.get(name), at) for name in sorted({*facts.groups, *known.groups})),
    )


def _verdict(broken: int, total: int) -> str:
    tokens = f"{total} token{'' if total == 1 else 's'}"
    return f"{broken} of {tokens} not healthy" if broken else f"{tokens}, all healthy"


def _instance(board: Board, entry: Entry, now: float, at: Callable[[float], str]) -> Instance:
    probed = "not probed yet"
    if entry.probed is not None:
        probed = f"{at(entry.probed)}, {span(now - entry.probed)} ago; it took {entry.took:.1f} s"
    fresh = board.is_fresh(entry, now)
    tokens = tuple(
        _token(plain(named(token.selector, seen.slot)), seen, entry, fresh=fresh, login=token.login, at=at)
        for token, seen in zip(entry.spec.tokens, entry.tokens, strict=True)
    )
    return Instance(plain(entry.spec.name), plain(entry.prefix or "none"), plain(entry.spec.model), probed, tokens)


def _token(name: str, seen: Seen, entry: Entry, *, fresh: bool, login: bool, at: Callable[[float], str]) -> Token:
    slot = seen.slot
    if entry.probed is None:
        state, tone = _UNPROBED, BAD
    elif not fresh:
        state, tone = "No recent answer", BAD
    elif not seen.healthy:
        state, tone = "Not healthy", BAD
    elif not slot["accessible"]:
        state, tone = "Counts as healthy, could not be probed", WARN
    else:
        state, tone = "Healthy", GOOD
    pin, pin_tone = _PIN.get(str(slot["pin_state"]), ("Not known", WARN)) if login else ("No login", GOOD)
    return Token(
        name,
        str(slot["slot_id"]) if slot["slot_id"] is not None else "not known",
        plain(slot["serial"]) if slot["serial"] else "not known",
        state,
        tone,
        pin,
        pin_tone,
        _error(seen, at),
    )


def _error(seen: Seen, at: Callable[[float], str]) -> Error | None:
    trouble = seen.trouble
    if trouble is None:
        return None
    text = plain(trouble.error)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    over = bool(seen.slot["accessible"])
    return Error(text, plain(trouble.code), "" if over else advice(trouble.code), at(trouble.since), at(trouble.last), over)


def _key_rows(counts: Mapping[tuple[str, str, str, str], int]) -> Iterator[KeyRow]:
    by_type: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
    for (name, token, kind, state), count in sorted(counts.items(), key=lambda item: (item[0][3] != ACTIVE, item[0])):
        by_type.setdefault((name, token, kind), []).append((state, count))
    for (name, token, kind), found in sorted(by_type.items()):
        yield KeyRow(plain(name), plain(token), plain(kind), ", ".join(f"{count} {plain(state)}" for state, count in found))


def _dues(found: Iterable[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    return sorted((when, plain(name), plain(place)) for when, name, place in found)


def _tone(seconds: float) -> str:
    return BAD if seconds < 0 else WARN if seconds < _SOON else GOOD


def _shown(dues: list[tuple[float, str, str]], wall: float) -> Dues:
    rows = [
        Due(name, place, moment(when), f"overdue by {span(wall - when)}" if when < wall else span(when - wall), _tone(when - wall))
        for when, name, place in dues[:MOST_ROWS]
    ]
    return Dues(tuple(rows), max(len(dues) - MOST_ROWS, 0))


def _group(name: str, compared: Compared | None, at: Callable[[float], str]) -> Group:
    if compared is None:
        return Group(plain(name), "Not compared yet: its members are compared when all their tokens work.", "", ())
    rows = []
    for member in compared.members if compared.error is None else ():  # else it is the same for all
        if member.disagreements is None:
            state, tone = f"Could not be read: {plain(member.error)}", WARN
        elif member.disagreements:
            state, tone = f"Disagrees on {member.disagreements} key{'' if member.disagreements == 1 else 's'}", WARN
        else:
            state, tone = "Agrees", GOOD
        rows.append(MemberRow(plain(member.instance), plain(member.token), state, tone))
    told = (
        f"Could not be compared at {at(compared.read)}: {plain(compared.error)}" if compared.error else f"Compared at {at(compared.read)}."
    )
    labels = ", ".join(map(plain, compared.labels))
    if compared.keys > len(compared.labels):
        labels += f" and {compared.keys - len(compared.labels)} more"
    return Group(plain(name), told, labels, tuple(rows))


def _tasks(
    known: Known,
    instances: tuple[Instance, ...],
    rotations: list[tuple[float, str, str]],
    certificates: list[tuple[float, str, str]],
    wall: float,
) -> Iterator[Task]:
    """Broken first."""
    found: list[Task] = []
    for instance in instances:
        for token in instance.tokens:
            where = f"Token {token.name} of instance {instance.name}"
            if token.error is not None and not token.error.over:
                what = f"{where} {'could not be probed' if token.tone == WARN else 'is not healthy'}"
                found.append(Task(what, token.error.advice, token.tone, token.error.text))
            elif token.tone == BAD and token.state != _UNPROBED:
                found.append(Task(f"{where} has given no recent answer", advice("probe_timeout"), BAD))
    if known.facts.readable is False:
        found.append(Task("The copy of the registry cannot be read", _COPY_ADVICE, WARN))
    elif known.facts.copied is not None and wall - known.facts.copied > _OLD_COPY:
        found.append(Task(f"The copy of the registry is {span(wall - known.facts.copied)} old", _COPY_ADVICE, WARN))
    for (name, _prefix, token_name), error in sorted(known.certificate_errors().items()):
        if error is not None:
            what = f"Certificates on token {plain(token_name)} of instance {plain(name)} could not be read"
            how = "It is tried at each probe. What is shown of them is what was read before."
            found.append(Task(what, how, WARN, plain(error)[:_LONGEST]))
    found += _due_tasks(
        rotations, wall, ("Rotation overdue", "To be rotated within 30 days"), "Run site.yml, which makes the next generation."
    )
    signed = "Have a new certificate signed, and store it with hsm_certificate. The gateway's own is made by the role gateway."
    found += _due_tasks(certificates, wall, ("Certificate has ended", "Certificate ends within 30 days"), signed)
    for name, compared in sorted(known.groups.items()):
        if compared.keys:
            keys = f"{compared.keys} key{'' if compared.keys == 1 else 's'}"
            how = "Run hsm_sync: members lists them, repair: wrap copies what a member lacks."
            found.append(Task(f"The members of group {plain(name)} disagree on {keys}", how, WARN))
        elif not compared.whole:
            found.append(Task(f"The members of group {plain(name)} could not be compared", "See the section on groups below.", WARN))
    yield from sorted(found, key=lambda task: task.tone != BAD)


def _due_tasks(dues: list[tuple[float, str, str]], wall: float, words: tuple[str, str], how: str) -> Iterator[Task]:
    """One task for all that are over, and one for all that are so soon."""
    for tone, what in zip((BAD, WARN), words, strict=True):
        names = [name for when, name, _place in dues if _tone(when - wall) == tone]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield Task(f"{what}: {', '.join(names[:3])}{more}", how, tone)
