# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What can go wrong, as types. One place above (``_module.run``) turns them into a module failure."""

from __future__ import annotations

from collections.abc import Iterable
from traceback import format_exc
from typing import Any

from .grouping import told

_UNREACHABLE = ("library_missing", "library_invalid", "library_init_failed", "no_token")


class KeyfleetError(Exception):
    """Base of every error that is meant for a person.

    ``code`` is a stable word for programs, ``details`` holds plain values for them; neither ever holds a secret.
    """

    def __init__(self, message: str, *, code: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details or {}
        self.changed = False  # whether something had been done already


class InputError(KeyfleetError):
    """Bad input. Carries every problem found, so that a batch reports all its errors at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        message, details = told(self.problems, f"{len(self.problems)} problems in the input:")
        super().__init__(message, code="invalid_input", details=details)


class Refused(KeyfleetError):
    """The request is well formed, and carrying it out would break something that the caller did not ask for by name."""


class RegistryError(KeyfleetError):
    """The registry cannot be read, written or understood."""


class ProviderError(KeyfleetError):
    """The PKCS#11 library cannot be found, loaded or initialised."""


class TokenError(KeyfleetError):
    """No token, or more than one, answers to a selector; or it is not in the state that the request needs."""


class PinError(KeyfleetError):
    """No PIN, a PIN that was refused, or one that must not be tried now."""


class Cryptoki(KeyfleetError):
    """A PKCS#11 call failed. ``rv`` is the return value's name, for example ``CKR_DEVICE_ERROR``.

    ``device`` is true when the fault is the HSM's and false when it is the caller's (see :mod:`.faults`).
    """

    def __init__(self, message: str, *, rv: str, device: bool, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, code=rv, details={"rv": rv, "device_fault": device, **(details or {})})
        self.rv = rv
        self.device = device


class Defect(Exception):
    """An error that is meant for nobody. It goes from one process to another as ``told``."""

    def __init__(self, code: str, text: str, trace: str) -> None:
        super().__init__(text)
        self.told = [code, text, trace]
        self.code = code
        self.text = text
        self.trace = trace

    @classmethod
    def of(cls, error: Exception) -> Defect:
        """Of the error that is being handled. An OSError of which nobody could say more is the host's: a full disk, no more open files."""
        if isinstance(error, Defect):
            return error
        if isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            text = f"the host refused: {error.strerror or error}{where}. Look at it, and run again."
            return cls(code="host_refused", text=text, trace=format_exc())
        text = f"an unexpected error, please report it: {type(error).__name__}: {error}"
        return cls(code="unexpected", text=text, trace=format_exc())


def is_unreachable(error: KeyfleetError) -> bool:
    """Whether the token cannot be reached at all, so that another member may serve in its place. One that is busy can be."""
    return error.code in _UNREACHABLE or (isinstance(error, Cryptoki) and error.device and error.rv != "CKR_SESSION_COUNT")
