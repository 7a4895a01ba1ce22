# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""C_DestroyObject on an object of the token. After an error this process cannot see that the object is gone.

SoftHSM drops an object from its memory before it removes the file: what it could not remove is hidden from the process that tried, and
there for every other one. So an object that is still seen is there, and one that is not seen is not known to be gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._model.errors import Cryptoki
from .faceless import handles
from .second_look import writing
from .session import Session

_NOT_SEEN = (
    ". This run no longer sees it, which does not prove that it is gone: check that this user may write to the token, and run again; the "
    "next run looks anew"
)


@contextmanager
def destroying(session: Session, handle: int, doing: str) -> Iterator[None]:
    """Run the body, which destroys the object behind ``handle``. It counts as destroyed only where the body ends well.

    Raises :class:`Cryptoki`; with ``changed_hsm`` among its details nobody can tell, until another process looks.
    """
    unseen = False

    def done() -> bool | None:
        nonlocal unseen
        unseen = handle not in handles(session)
        return None if unseen else False

    try:
        with writing(doing, "C_DestroyObject", done):
            yield
    except Cryptoki as error:
        if unseen:
            error.message += _NOT_SEEN
        raise
