# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Calls that write to the token. An error of such a call does not say that nothing was written, so the token is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._model import underway
from .._model.errors import Cryptoki
from .errors import calling
from .uninterrupted import uninterrupted

CHANGED = "changed_hsm"  # among an error's details: something was written all the same, or nobody can tell


def cannot_tell(error: Cryptoki, failure: Cryptoki) -> None:
    """Say in ``error`` that the token was, or may have been, changed: the look after it failed with ``failure``."""
    error.details[CHANGED] = True
    error.message += f"; whether it took effect all the same could not be read ({failure.rv})"


@contextmanager
def writing(doing: str, function: str, done: Callable[[], bool | None]) -> Iterator[None]:
    """Run the body, which is one call of ``function``, which writes. After an error ``done`` looks whether it took effect all the same;
    then it counts. None: no look can tell.

    Raises :class:`Cryptoki`: nothing was written, unless its details hold ``changed_hsm``.
    """
    try:
        with calling(doing, function, writes=True), uninterrupted():
            yield
    except Cryptoki as error:
        try:
            with calling("looking at it again"):
                took_effect = done()
        except Cryptoki as failure:
            cannot_tell(error, failure)
            raise error from None
        if took_effect is None:
            error.details[CHANGED] = True
            error.message += "; whether it took effect all the same is not known"
        if not took_effect:
            raise
        underway.done(doing)
