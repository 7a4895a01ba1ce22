# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects without any attribute: SoftHSM leaves such when it is killed at the very beginning of a create.

No search by an attribute finds them, and python-pkcs11's search for everything fails on them.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from .errors import calling
from .session import Session


def find_faceless(session: Session, known: Container[int]) -> list[Any]:
    """Of all objects that a search without a template finds those that ``known`` does not hold: the handles of what has a CKA_TOKEN.
    They can be destroyed, and nothing else.

    Every object must have that attribute (PKCS#11 3.1, section 4.4). Raises :class:`Cryptoki`.
    """
    return [raw for raw in _all(session) if int(raw.handle) not in known]


def handles(session: Session) -> list[int]:
    """The handles of all objects that this session sees, without a look at their attributes. Raises :class:`Cryptoki`."""
    if session.way is not None:
        return session.way.handles(None, _doing(session))
    return [int(raw.handle) for raw in _all(session)]


def _all(session: Session) -> list[Any]:
    if session.way is not None:
        return [session.way.object(handle) for handle in handles(session)]
    with calling(_doing(session)):
        return list(session.raw.get_objects())


def _doing(session: Session) -> str:
    return f"searching {session.token} for all objects"
