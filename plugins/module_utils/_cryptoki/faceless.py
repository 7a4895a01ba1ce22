# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Objects without any attribute: SoftHSM leaves such when it is killed at the very beginning of a create.

No search by an attribute finds them, python-pkcs11 cannot stand for them, and its search for everything fails on them.
"""

from __future__ import annotations

from collections.abc import Container

from .errors import calling
from .function_list import DESTROY_OBJECT, check
from .session import Session


class Faceless:
    """One of them. It can be destroyed, and nothing else."""

    def __init__(self, session: Session, handle: int) -> None:
        self.session = session
        self.handle = handle

    def destroy(self) -> None:
        """C_DestroyObject. Raises :class:`Cryptoki`."""
        if self.session.way is not None:
            check(self.session.way.functions(DESTROY_OBJECT, self.handle), f"destroying the object with handle {self.handle}")


def find_faceless(session: Session, known: Container[int]) -> list[Faceless]:
    """All objects that a search without a template finds and ``known`` does not hold, the handles of those that have a CKA_TOKEN.

    Every object must have that attribute (PKCS#11 3.1, section 4.4). Raises :class:`Cryptoki`.
    """
    return [Faceless(session, handle) for handle in handles(session) if handle not in known]


def handles(session: Session) -> list[int]:
    """The handles of all objects that this session sees, without a look at their attributes. Raises :class:`Cryptoki`."""
    doing = f"searching {session.token} for all objects"
    if session.way is not None:
        return session.way.handles(None, doing)
    with calling(doing):
        return [int(raw.handle) for raw in session.raw.get_objects()]
