# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether a token does its work. A probe is a ladder: what one token does in a session, another refuses by policy, or does not have.

Rungs, in this order: a fresh AES key, a fresh pair, a key that is there, random numbers. The first that holds is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from .._model.errors import Cryptoki
from .._model.faults import ends_probe, is_refusal
from .binding import mechanism, pkcs11, typed
from .errors import calling
from .objects import Inventory, describe, key_of
from .passing import for_a_moment
from .roundtrip import BLOCK, SIGNING, use_fresh, use_once, wrong_answer
from .session import Session

KEY, RANDOM = "key", "random"
_KEYS = 2  # of each class that are tried, where the token makes none for a session
_RANDOM_BITS = 128


@dataclass(frozen=True)
class Held:
    """The rung that held: AES_ECB, AES_CBC, AES_GCM, EC, RSA, key or random. ``refused``: the answers of those before it, by rung."""

    rung: str
    refused: Mapping[str, str] = field(default_factory=dict)


def _use_aes(session: Session, mode: str, parameter: Any) -> bool:
    flags = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
    template, how = {pkcs11.Attribute.EXTRACTABLE: False}, {"mechanism": mechanism(mode), "mechanism_param": parameter}
    key = session.raw.generate_key(pkcs11.KeyType.AES, 256, store=False, capabilities=flags, template=template)
    with for_a_moment(typed(key, "AES")):
        sealed = key.encrypt(BLOCK, **how)
        opened = key.decrypt(sealed, **how)
    if opened != BLOCK or sealed == BLOCK:
        raise wrong_answer(mode)
    return True


def _use_pair(session: Session, name: str) -> bool:
    return use_fresh(session, name, ("sign", "verify")) is not None


def _random(session: Session) -> bool:
    if not any(session.raw.generate_random(_RANDOM_BITS)):
        raise wrong_answer(RANDOM)
    return True


def _keys(session: Session) -> Iterator[Any]:
    """A few keys of the token, as raw objects: a search for all may be long."""
    attribute, classes = pkcs11.Attribute, pkcs11.ObjectClass
    for kind in (classes.PRIVATE_KEY, classes.SECRET_KEY):
        with closing(session.raw.get_objects({attribute.TOKEN: True, attribute.CLASS: kind}, batch_size=_KEYS)) as found:
            few = list(islice(found, _KEYS))
        yield from few


def _use_key(session: Session) -> bool:
    """Use one of a few keys. One key may be of a policy, or broken: that says nothing as long as another does its work."""
    told: Cryptoki | None = None
    for raw in _keys(session):
        try:
            with calling("using a key that is there"):
                item = describe(raw)
            if item is None or item.always_authenticate:  # a probe spends no further login
                continue
            if use_once(session, Inventory([item], {item.handle: raw}), key_of([item])) is not None:
                return True
        except Cryptoki as error:
            if ends_probe(error.rv):
                raise
            told = error if told is None or is_refusal(told.rv) else told
    if told is not None:
        raise told
    return False


def _rungs(session: Session) -> Iterator[tuple[str, Callable[[], bool]]]:
    """What is tried, in this order, by name. Each returns False where it could not be tried, and raises :class:`Cryptoki`."""
    mechanisms = session.mechanisms()
    parameters = {"AES_ECB": None, "AES_CBC": bytes(16), "AES_GCM": pkcs11.GCMParams(bytes(12))}
    for mode, parameter in parameters.items():
        if {"AES_KEY_GEN", mode} <= mechanisms:
            yield mode, partial(_use_aes, session, mode, parameter)
    for name, generate in (("EC", "EC_KEY_PAIR_GEN"), ("RSA", "RSA_PKCS_KEY_PAIR_GEN")):
        if generate in mechanisms and mechanisms.intersection(SIGNING[name]):
            yield name, partial(_use_pair, session, name)
    yield KEY, partial(_use_key, session)
    yield RANDOM, partial(_random, session)


def _holds(holds: Callable[[], bool], doing: str) -> bool:
    try:
        with calling(doing):
            return holds()
    except AttributeError as error:
        # python-pkcs11 gives an object the methods that its attributes permit; without them, it could not read those.
        raise Cryptoki(f"{doing} failed: the key's attributes could not be read", rv="CKR_FUNCTION_FAILED", device=True) from error
    except Cryptoki as error:
        if not error.message.startswith(doing):
            error.message = f"{doing} failed: {error.message}"
        raise


def probe(session: Session) -> Held:
    """Have the token do something, and say what it did. Nothing is left on it.

    A rung that is refused leads to the next one. CKR_GENERAL_ERROR says neither that the token is ill nor that it is well: a key that
    does its work afterwards proves it alive. Random numbers do not, since some libraries make them without the device.

    Raises :class:`Cryptoki`: what is the matter with the token, or that it refused everything. Its details hold ``refused``, as in
    :class:`Held`.
    """
    what = f"the round trip on {session.token}"
    refused: dict[str, str] = {}
    doubts: list[Cryptoki] = []
    for name, holds in _rungs(session):
        if name == RANDOM and doubts:
            raise doubts[0]
        try:
            if _holds(holds, f"{what} by {name}"):
                return Held(name, refused)
        except Cryptoki as error:
            error.details["refused"] = refused
            if ends_probe(error.rv):
                raise
            refused[name] = error.rv
            if not is_refusal(error.rv):
                doubts.append(error)
    if doubts:
        raise doubts[0]
    answers, rv = ", ".join(f"{name} ({rv})" for name, rv in refused.items()), next(iter(refused.values()))
    raise Cryptoki(f"{what}: the token refused all of it: {answers}", rv=rv, device=False, details={"refused": refused})
