# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whether it is the curve that a token refuses. No list of PKCS#11 says which curves a token has, and tokens answer with many codes."""

from __future__ import annotations

from contextlib import ExitStack

from .._model.errors import Cryptoki
from .._model.faults import ends_probe
from .._model.keys.types import CURVES, KEY_TYPES, OPERATIONS
from .binding import key_type, mechanism, pkcs11
from .errors import calling
from .passing import for_a_moment
from .session import Session

NO_CURVE = "CKR_CURVE_NOT_SUPPORTED"
_SAY_SO = frozenset({NO_CURVE, "CKR_DOMAIN_PARAMS_INVALID"})  # PKCS#11 3.1, section 5.1.6: the second was the usual one before 3.0


def _make(session: Session, curve: str) -> None:
    """A pair that lives in this session for a moment, requested with as little as can be. Raises :class:`Cryptoki`."""
    kind, attribute = KEY_TYPES["EC"], pkcs11.Attribute
    unsaid = dict.fromkeys((attribute[name.upper()] for name in OPERATIONS), pkcs11.constants.DEFAULT)
    with calling(f"making a pair on {curve} for a test", "C_GenerateKeyPair"), ExitStack() as passing:
        domain = session.raw.create_domain_parameters(key_type(kind.ckk), {attribute.EC_PARAMS: CURVES[curve].der}, local=True)
        made = domain.generate_keypair(
            store=False,
            capabilities=0,
            mechanism=mechanism(kind.generate),
            public_template={**unsaid, attribute.VERIFY: True},
            private_template={**unsaid, attribute.SIGN: True},
        )
        for raw in made:
            passing.enter_context(for_a_moment(raw))


def lacking(session: Session, curve: str) -> Cryptoki | None:
    """The refusal of a token that makes no pair on ``curve`` and one on another curve, with ``NO_CURVE``; or what is the matter with the
    token. None where it has the curve, or nobody can tell."""
    try:
        _make(session, curve)
        return None
    except Cryptoki as error:
        refusal = error
    if refusal.rv not in _SAY_SO:
        if ends_probe(refusal.rv):
            return refusal
        try:
            _make(session, "P-384" if curve == "P-256" else "P-256")
        except Cryptoki:
            return None
    return _named(session, curve, refusal)


def blame_curve(session: Session, curve: str | None, error: Cryptoki) -> None:
    """Name the curve in the ``error`` of a call that was to make a key on it, where it is what the token refuses."""
    if curve is None or ends_probe(error.rv):
        return
    told = None if error.rv in _SAY_SO else lacking(session, curve)
    if error.rv in _SAY_SO or (told is not None and told.rv == NO_CURVE):
        _named(session, curve, error)


def _named(session: Session, curve: str, error: Cryptoki) -> Cryptoki:
    error.message = f"{session.token} does not have the curve {curve} ({error.rv})"
    error.rv = error.code = NO_CURVE
    error.device = False
    error.details |= {"rv": NO_CURVE, "device_fault": False}
    return error
