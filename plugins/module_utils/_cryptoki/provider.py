# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A PKCS#11 library, loaded and initialised, and the tokens in its slots."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._model import underway
from .._model.errors import Cryptoki, KeyfleetError, ProviderError, TokenError
from .._model.tokens.identity import Store, TokenIdentity, unpadded, way_to_one
from .._model.tokens.secret import Secret
from .._model.tokens.selectors import TokenSelector
from .._model.tokens.starting import Starting
from .binding import pkcs11
from .errors import calling, rv_name
from .init_token import init_token
from .initialize import Initialized, finalize, load
from .library_info import pin_lengths, read_info, version
from .locks import Gate, HostLock
from .second_look import CHANGED, writing


@dataclass(frozen=True)
class Token:
    """A token as its slot described it just now. ``flags`` are names without ``CKF_``; ``label`` is empty before initialisation.

    ``store`` and ``shared`` are what :class:`Provider` adds, and :func:`read_token` cannot know.
    """

    slot_id: int
    label: str
    serial: str
    model: str
    flags: frozenset[str]
    slot: Any = field(repr=False, compare=False)
    store: Store = field(default=Store(), compare=False)
    shared: bool = field(default=False, compare=False)

    @property
    def identity(self) -> TokenIdentity:
        return TokenIdentity(self.store, self.serial, self.label, self.slot_id, self.shared)

    @property
    def initialized(self) -> bool:
        return "TOKEN_INITIALIZED" in self.flags

    def __str__(self) -> str:
        if not self.label:
            return f"token in slot {self.slot_id} (serial {self.serial or 'unknown'})"
        return f"token '{self.label}' (slot {self.slot_id}, serial {self.serial or 'unknown'})"


def find_library(candidates: Sequence[str]) -> str:
    """The first of ``candidates`` that exists. Raises :class:`ProviderError` that names all of them."""
    for path in candidates:
        if os.path.exists(path):
            if not os.path.isfile(path):
                raise ProviderError(f"library: {path} is not a file", code="library_invalid", details={"library": path})
            return path
    tried = ", ".join(candidates)
    raise ProviderError(
        f"library: there is no PKCS#11 library at {tried}. Install the vendor's package, or give library its path.",
        code="library_missing",
        details={"tried": list(candidates)},
    )


def read_token(slot: Any) -> Token:
    """Ask the slot for its token, with flags of this moment. Raises :class:`Cryptoki`."""
    with calling(f"reading the token in slot {slot.slot_id}", "C_GetTokenInfo"):
        token = slot.get_token()
    flags = frozenset(flag.name for flag in pkcs11.TokenFlag if flag in token.flags and flag.name)
    initialized = "TOKEN_INITIALIZED" in flags
    return Token(
        slot_id=int(slot.slot_id),
        label=unpadded(token.label) if initialized else "",
        serial=unpadded(token.serial.decode("utf-8", "replace")),
        model=token.model,
        flags=flags,
        slot=slot,
    )


class Provider:
    """One initialised library in this process. Made by :func:`open_provider`; one thread only, python-pkcs11 is not safe for more."""

    def __init__(self, library: str, store: Store, lib: Any, lock: HostLock, gate: Gate, timeout: float) -> None:
        self.library = library
        self.store = store
        self.gate = gate
        self._lib = lib
        self._lock = lock
        self._timeout = timeout

    def reinitialize(self) -> None:
        """C_Finalize and C_Initialize: closes every session, logs out, and shows tokens made since."""
        with self.gate.looking(), calling(f"initialising {self.library} again", "C_Initialize"):
            try:
                self._lib.reinitialize()
            except (pkcs11.PKCS11Error, Cryptoki):
                finalize(self.library)  # the next try begins anew
                raise

    def close(self) -> None:
        """C_Finalize. What was done before counts, and not how it ends.

        Where it fails it is called once more: a library that stays initialised would answer the next instance, or refuse to start for
        it, with this one's configuration.
        """
        with underway.calling(underway.Call(f"closing {self.library}", "C_Finalize")):
            with suppress(pkcs11.PKCS11Error, Cryptoki):
                if self._lib.initialized:
                    self._lib.finalize()
                    return
            finalize(self.library)

    def info(self) -> dict[str, str]:
        """What the library says of itself: manufacturer, description, version and cryptoki_version. Raises :class:`Cryptoki`."""
        lib = self._lib
        if isinstance(lib, Initialized):
            return read_info(self.library)
        versions = {"version": version(lib.library_version), "cryptoki_version": version(lib.cryptoki_version)}
        return {"manufacturer": lib.manufacturer_id, "description": lib.library_description, **versions}

    def slots(self) -> list[Any]:
        """python-pkcs11's slots, with and without a token. Called inside ``gate.looking()``. Raises :class:`Cryptoki`."""
        with calling(f"listing the slots of {self.library}", "C_GetSlotList"):
            return list(self._lib.get_slots())

    def tokens(self) -> tuple[list[Token], list[Cryptoki]]:
        """The tokens of all slots, initialised or not, and the faults of slots that could not be read.

        One slot's fault does not hide the others. An empty slot is neither.
        """
        tokens: list[Token] = []
        faults: list[Cryptoki] = []
        with self.gate.looking():
            for slot in self.slots():
                try:
                    tokens.append(read_token(slot))
                except Cryptoki as fault:
                    if fault.rv != "CKR_TOKEN_NOT_PRESENT":
                        faults.append(fault)
        times = Counter(token.serial for token in tokens)
        return [replace(token, store=self.store, shared=times[token.serial] > 1) for token in tokens], faults

    def find(self, selector: TokenSelector) -> Token | None:
        """The one token that answers to ``selector``; None only when every slot was read and none does.

        Another program's login may hide a token for a moment, so an empty answer is asked for once more after
        re-initialisation. Raises :class:`TokenError` when several match, :class:`Cryptoki` when a slot could not be read.
        """
        token = self._find_once(selector, last=False)
        if token is None:
            self.reinitialize()
            token = self._find_once(selector, last=True)
        return token

    def _find_once(self, selector: TokenSelector, *, last: bool) -> Token | None:
        try:
            tokens, faults = self.tokens()
        except Cryptoki:
            if last:
                raise
            return None
        matching = [token for token in tokens if _answers(token, selector)]
        if len(matching) > 1:
            listed = "; ".join(f"slot {token.slot_id}, label '{token.label}', serial {token.serial or 'unknown'}" for token in matching)
            way = way_to_one([token.identity for token in matching])
            raise TokenError(
                f"{len(matching)} tokens answer to {selector}: {listed}. Name one of them by {way}.",
                code="several_tokens",
                details={"tokens": [{"slot": t.slot_id, "label": t.label, "serial": t.serial} for t in matching]},
            )
        if matching:
            return matching[0]
        if faults and last:
            raise faults[0]
        return None

    def require(self, selector: TokenSelector) -> Token:
        """:meth:`find`, raising :class:`TokenError` that lists what is there when there is none."""
        token = self.find(selector)
        if token is None:
            raise self.no_token(selector)
        if not token.initialized:
            raise TokenError(
                f"the token in slot {token.slot_id} is not initialised. Name a label and give initialize: true with so_pin and "
                "pin to create one.",
                code="token_not_initialized",
            )
        return token

    def no_token(self, selector: TokenSelector) -> KeyfleetError:
        """What to raise where no token answers: as long as a slot cannot be read, its fault."""
        tokens, faults = self.tokens()
        if faults:
            return faults[0]
        present = [token for token in tokens if token.initialized]
        listed = "; ".join(f"'{token.label}' (slot {token.slot_id}, serial {token.serial})" for token in present) or "none"
        return TokenError(
            f"no token answers to {selector} in {self.library}. Tokens that are there: {listed}.",
            code="no_token",
            details={"tokens": [{"slot": t.slot_id, "label": t.label, "serial": t.serial} for t in present]},
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other run has the library initialised while the body runs, and it sees what they left.

        Entered without a session open: whoever waits here must hold nothing that another run waits for. Raises
        :class:`TokenError` when ``connection_timeout`` runs out.
        """
        self._lock.acquire(timeout=self._timeout)
        try:
            self.reinitialize()
            yield
        finally:
            self._lock.acquire(shared=True)

    def create_token(self, label: str, so_pin: Secret) -> Token:
        """C_InitToken in a free slot. Called inside :meth:`alone`, after a look for the label. The token is the one in that slot; some
        libraries give a new token another slot, and there its label tells.

        Raises :class:`TokenError` when no slot is free, :class:`Cryptoki` otherwise; its details hold ``changed_hsm`` where the token is
        there, or may be.
        """
        slot_id = self.free_slot().slot_id
        with writing(f"creating the token '{label}' in slot {slot_id}", "C_InitToken", lambda: self._created(slot_id, label) is not None):
            init_token(self.library, slot_id, so_pin, label)
        try:
            token = self._created(slot_id, label)
            return token if token is not None else self.require(TokenSelector("label", label))
        except Cryptoki as error:
            error.details[CHANGED] = True
            error.message = f"the token '{label}' was created, and then {error.message}"
            raise

    def _created(self, slot_id: int, label: str) -> Token | None:
        """The new token, if it is there. A library shows new tokens when it is initialised again; a hiccup there is no answer."""
        try:
            self.reinitialize()
        except Cryptoki:
            self.reinitialize()
        tokens, _faults = self.tokens()
        for token in tokens:
            if token.slot_id == slot_id and token.initialized and token.label == label:
                return token
        return self.find(TokenSelector("label", label))

    def pin_lengths(self, token: Token) -> tuple[int, int]:
        """Least and greatest length of a PIN in bytes; (0, 0) where the token does not say."""
        return pin_lengths(self.library, token.slot_id)

    def free_slot(self) -> Token:
        """The first token that is not initialised. Raises :class:`TokenError` when there is none, :class:`Cryptoki` when a slot that
        may hold one could not be read."""
        tokens, faults = self.tokens()
        for token in tokens:
            if not token.initialized:
                return token
        if faults:
            raise faults[0]
        raise TokenError(
            f"{self.library} has no free slot: every token is initialised, and none is ever initialised again. "
            "Make a slot with the vendor's tools first.",
            code="no_free_slot",
        )


def _answers(token: Token, selector: TokenSelector) -> bool:
    return (token.initialized or selector.kind == "slot") and token.identity.answers(selector)


def _load(library: str, starting: Starting) -> Any:
    try:
        with underway.calling(underway.Call(f"loading {library}", "C_Initialize")):
            return load(library, starting)
    except (pkcs11.PKCS11Error, Cryptoki) as error:
        reason = str(error)
        if "while loading" in reason:
            raise ProviderError(
                f"library: {library} is no PKCS#11 library: {reason.rpartition(f'{library}: ')[2]}. Give the vendor's PKCS#11 module.",
                code="library_invalid",
                details={"library": library},
            ) from error
        rv = error.rv if isinstance(error, Cryptoki) else rv_name(error)
        raise ProviderError(
            f"library: {library} could not be initialised: {rv}. Check the vendor's configuration, the variables in environment, and "
            "whether it wants init_args.",
            code="library_init_failed",
            details={"library": library, "rv": rv},
        ) from error


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """The variables of one instance for as long as its library is open: another one's must not be read with them."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def open_provider(candidates: Sequence[str], starting: Starting, timeout: float = 0) -> Iterator[Provider]:
    """Load and initialise the first library of ``candidates`` that exists, and finalise it at the end.

    The environment is set before the library is loaded, since vendors read their variables then. Raises
    :class:`ProviderError`; a GENERAL_ERROR at start-up is tried once more.
    """
    library = find_library(candidates)
    if not os.access(library, os.R_OK):
        details = {"library": library}
        raise ProviderError(f"library: {library} may not be read by this user", code="library_invalid", details=details)
    # By the library alone: one HSM may be declared with its environment, and found through an inherited one.
    identity = str(Path(library).resolve())
    name = f"the library {library}"
    with _variables(starting.environment), HostLock(name, "provider", identity) as lock, Gate(HostLock(name, "gate", identity)) as gate:
        lock.acquire(shared=True, timeout=timeout)
        with gate.looking():
            try:
                lib = _load(library, starting)
            except ProviderError as error:
                if error.details.get("rv") != "CKR_GENERAL_ERROR":
                    raise
                lib = _load(library, starting)
        provider = Provider(library, Store.of(identity, starting), lib, lock, gate, timeout)
        try:
            yield provider
        finally:
            provider.close()
