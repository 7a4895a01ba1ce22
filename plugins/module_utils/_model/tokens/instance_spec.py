# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""An instance and its tokens as they are declared, checked before anything is loaded or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os.path import normpath
from typing import Any

from ..errors import InputError, KeyfleetError
from ..keys.layout import PKCS11
from ..quoting import quoted
from ..uids import model_problem
from .instance_names import name_problem
from .secret import PINPAD, Secret, option_problems
from .selectors import TokenSelector
from .starting import Starting
from .vendors import LIBRARIES, default_libraries

# Ansible's words for booleans.
_TRUE, _FALSE = frozenset({"y", "yes", "on", "1", "true", "t", "1.0"}), frozenset({"n", "no", "off", "0", "false", "f", "0.0"})
_MOST = 2**31 - 1  # what a C int holds


@dataclass(frozen=True)
class TokenSpec:
    """One entry of ``tokens:``. PINs are :class:`Secret`; files are paths on the target. ``pinpad``: a person types the PIN."""

    index: int
    selector: TokenSelector
    initialize: bool = False
    so_pin: Secret | None = None
    so_pin_file: str | None = None
    pin: Secret | None = None
    pin_file: str | None = None
    new_pin: Secret | None = None
    login: bool = True
    user_type: str = "user"
    pinpad: bool = False

    @property
    def where(self) -> str:
        return f"tokens[{self.index}] ({self.selector})"


@dataclass(frozen=True)
class InstanceSpec:
    """What hsm_instance takes for ``state: present``. ``library`` is None where the model's default is to be found."""

    name: str
    model: str
    description: str = ""
    library: str | None = None
    admins: tuple[str, ...] = ()
    max_sessions: int = 1024
    connection_timeout: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[TokenSpec, ...] = ()
    init_args: str = ""
    os_locking: bool = False
    layout: str = PKCS11

    @property
    def starting(self) -> Starting:
        return Starting(self.environment, self.init_args, self.os_locking)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Where to look for the provider, best first."""
        return (self.library,) if self.library else default_libraries(self.model)


def read_login(value: object) -> bool | str | None:
    """What ``login`` says: true, false or :data:`PINPAD`, true where it is not given; None where it says none of them."""
    word = str(value).strip().lower()
    if value is None or word in _TRUE:
        return True
    return False if word in _FALSE else PINPAD if word == PINPAD else None


def _pinpad_problems(options: Mapping[str, Any], where: str) -> list[str]:
    """Nobody but the person at the device knows the PIN, and only the user's is typed there."""
    given = [name for name in ("pin", "pin_file", "new_pin", "so_pin", "so_pin_file", "initialize") if options.get(name)]
    problems = [f"{where}.{name}: cannot be used with login: {PINPAD}, where a person types the user PIN at the device" for name in given]
    if options.get("user_type") == "so":
        problems.append(f"{where}.user_type: so cannot be used with login: {PINPAD}, which logs in as user")
    return problems


def _token_problems(options: Mapping[str, Any], selector: TokenSelector | None, where: str) -> list[str]:
    problems: list[str] = []
    pin, pin_file, new_pin = options.get("pin"), options.get("pin_file"), options.get("new_pin")
    so_pin, so_pin_file = options.get("so_pin"), options.get("so_pin_file")
    if so_pin and so_pin_file:
        problems.append(f"{where}.so_pin: give so_pin or so_pin_file, not both")
    for name, value in (("pin", pin), ("so_pin", so_pin), ("new_pin", new_pin)):
        if value is not None:
            problems += option_problems(value, f"{where}.{name}")
    if options.get("initialize"):
        if selector is not None and selector.kind != "label":
            problems.append(f"{where}.initialize: a token is created by its label: give label, not {selector.kind}")
        if options.get("user_type") == "so":
            problems.append(f"{where}.initialize: sets a user PIN, so it cannot be used with user_type: so")
        if not so_pin and not so_pin_file:
            problems.append(f"{where}.initialize: creating a token needs so_pin or so_pin_file")
        if not pin and not pin_file and not new_pin:
            problems.append(f"{where}.initialize: a new token needs a user PIN: give pin or pin_file")
    login = read_login(options.get("login"))
    if login is None:
        problems.append(f"{where}.login: give true, false or {PINPAD}")
    elif login is False and (pin or pin_file or new_pin):
        problems.append(f"{where}.login: is false, so pin, pin_file and new_pin have no use: leave them out or log in")
    elif login == PINPAD:
        problems += _pinpad_problems(options, where)
    if new_pin and not pin_file:
        problems.append(
            f"{where}.new_pin: needs pin_file, the record of which PIN is in force: without it a second run would try a wrong PIN"
        )
    if new_pin and options.get("user_type") == "so":
        problems.append(f"{where}.new_pin: changes the user PIN; it cannot be used with user_type: so")
    return problems


def parse_tokens(entries: Sequence[Mapping[str, Any]], where: str = "") -> tuple[list[TokenSpec], list[str]]:
    """Token specs in order, and every problem found. ``where`` is put before ``tokens[n]``."""
    problems: list[str] = []
    tokens: list[TokenSpec] = []
    seen: dict[TokenSelector, int] = {}
    for index, options in enumerate(entries):
        place = f"{where}tokens[{index}]"
        selector, selector_problems = TokenSelector.parse(options, place)
        problems += selector_problems
        problems += _token_problems(options, selector, place)
        if selector is None:
            continue
        if selector in seen:
            problems.append(f"{place}: tokens[{seen[selector]}] names the same token ({selector})")
        seen.setdefault(selector, index)
        tokens.append(
            TokenSpec(
                index=index,
                selector=selector,
                initialize=bool(options.get("initialize")),
                so_pin=options.get("so_pin"),
                so_pin_file=options.get("so_pin_file"),
                pin=options.get("pin"),
                pin_file=options.get("pin_file"),
                new_pin=options.get("new_pin"),
                login=read_login(options.get("login")) is not False,
                user_type=options.get("user_type") or "user",
                pinpad=read_login(options.get("login")) == PINPAD,
            )
        )
    return tokens, problems


def parse_instance(options: Mapping[str, Any], where: str = "") -> tuple[InstanceSpec | None, list[str]]:
    """An instance from its options, and every problem found; None when there is one. ``where`` is put before each name."""
    problems: list[str] = []
    name, model, library = options["name"], options.get("model") or "", options.get("library")
    if problem := name_problem(name):
        problems.append(f"{where}name: {problem}")
    if problem := model_problem(model):
        problems.append(f"{where}model: {problem}")
    elif not library and model.lower() not in LIBRARIES:
        problems.append(
            f"{where}library: is missing, and model {quoted(model)} has no default: give the path of its PKCS#11 library. "
            f"Models with a default: {', '.join(sorted(LIBRARIES))}"
        )
    for option, least in (("max_sessions", 1), ("connection_timeout", 0)):
        value = options.get(option)
        if value is not None and value < least:
            problems.append(f"{where}{option}: {value} is too small: give {least} or more")
        elif value is not None and value > _MOST:
            problems.append(f"{where}{option}: {value} is too large: give at most {_MOST}")
    starting, starting_problems = Starting.parse(options, where)
    problems += starting_problems
    admins = options.get("admins") or []
    for admin in sorted({admin for admin in admins if admins.count(admin) > 1}):
        problems.append(f"{where}admins: {quoted(admin)} is given twice")
    if any(not admin.strip() for admin in admins):
        problems.append(f"{where}admins: holds an empty entry")
    tokens, token_problems = parse_tokens(options.get("tokens") or [], where)
    problems += token_problems
    if problems:
        return None, problems
    return (
        InstanceSpec(
            name=name,
            model=model.lower(),
            description=options.get("description") or "",
            library=library,
            admins=tuple(admins),
            max_sessions=1024 if options.get("max_sessions") is None else options["max_sessions"],
            connection_timeout=options.get("connection_timeout") or 0,
            **vars(starting),
            tokens=tuple(tokens),
            layout=options.get("layout") or PKCS11,
        ),
        [],
    )


def _shared_files(tokens: Sequence[TokenSpec], registry: str) -> Iterator[str]:
    """PIN files that are something else as well: what is written there would be lost."""
    writing = [(token, normpath(token.pin_file)) for token in tokens if token.pin_file and (token.pin or token.new_pin)]
    for token, path in writing:
        if path in [normpath(registry + ending) for ending in ("", "-wal", "-shm", "-journal")]:
            yield f"{token.where}.pin_file: is the registry: give a file of its own"
        for other in tokens:
            if other.so_pin_file and normpath(other.so_pin_file) == path:
                yield f"{token.where}.pin_file: is {other.where}.so_pin_file as well: give each a file of its own"
            if other is not token and other.pin_file and normpath(other.pin_file) == path and _differ(token, other):
                yield f"{token.where}.pin_file: is {other.where}.pin_file as well, and their PINs may differ: give each a file of its own"


def _differ(one: TokenSpec, other: TokenSpec) -> bool:
    return bool(one.new_pin or other.new_pin) or (other.pin is not None and one.pin != other.pin)


@dataclass(frozen=True)
class InstanceRequest:
    """The options of hsm_instance. ``registry`` is a path on the target. ``spec`` is None for ``state: absent``.

    ``expect_prefix`` is the prefix that the instance has to have in the end, None for any. ``broken``: what came of an earlier try to use
    its library, which is not used again.
    """

    registry: str
    name: str
    validate: bool
    allow_renumber: bool
    expect_prefix: str | None
    force: bool
    exclusive: bool
    allow_low_pin_count: bool
    spec: InstanceSpec | None = None
    broken: KeyfleetError | None = None

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> InstanceRequest:
        """The request that ``params``, the module's options, make. Raises :class:`InputError` with every problem."""
        if params["state"] == "absent":
            spec, problem = None, name_problem(params["name"])
            problems = [f"name: {problem}"] if problem else []
        else:
            spec, problems = parse_instance(params)
            problems += _shared_files(spec.tokens if spec else (), params["registry"])
        if problems:
            raise InputError(problems)
        return cls(**{field.name: params[field.name] for field in fields(cls) if field.name not in ("spec", "broken")}, spec=spec)

    def without_library(self, error: KeyfleetError) -> InstanceRequest | None:
        """After the library broke with ``error``: the same for the registry alone, where that will do."""
        return None if self.validate or self.spec is None else replace(self, broken=error)
