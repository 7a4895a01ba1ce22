# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Whose fault a PKCS#11 return value is: the device's or the caller's.

The rule is the Fortanix gateway's: a slot turns unhealthy on a server-side error, not on a client-side one. One table,
used by every module and by the health service.
"""

from __future__ import annotations

DEVICE_FAULTS = frozenset(
    {
        "CKR_DEVICE_ERROR",
        "CKR_DEVICE_MEMORY",
        "CKR_DEVICE_REMOVED",
        "CKR_FUNCTION_FAILED",
        "CKR_GENERAL_ERROR",
        "CKR_HOST_MEMORY",
        "CKR_SESSION_COUNT",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_TOKEN_NOT_RECOGNIZED",
    }
)

# Failure codes of a probe that say the same: the library hung or crashed.
_IN_A_CHILD = frozenset({"probe_crashed", "probe_timeout"})

# Return values that python-pkcs11 hands over as a bare number, named as in PKCS#11 3.1, section 6.1.
UNMAPPED = {
    0x1B: "CKR_ACTION_PROHIBITED",
    0x21: "CKR_DATA_LEN_RANGE",
    0x54: "CKR_FUNCTION_NOT_SUPPORTED",
    0x65: "CKR_KEY_CHANGED",
    0x68: "CKR_KEY_FUNCTION_NOT_PERMITTED",
    0x140: "CKR_CURVE_NOT_SUPPORTED",
    0x170: "CKR_INFORMATION_SENSITIVE",
    0x180: "CKR_STATE_UNSAVEABLE",
    0x190: "CKR_CRYPTOKI_NOT_INITIALIZED",
    0x191: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
    0x200: "CKR_FUNCTION_REJECTED",
}


def number_name(rv: int) -> str:
    """The name of a return value that is known by its number alone; a vendor's own, and what PKCS#11 has none for, keep the number."""
    return UNMAPPED.get(rv) or (f"CKR_VENDOR_DEFINED (0x{rv:08x})" if rv >= 0x80000000 else f"CKR 0x{rv:08x}")


def is_device_fault(code: str) -> bool:
    """True when ``code`` (a ``CKR_`` name, or a failure code) speaks of the device, False when it speaks of the call."""
    return code in DEVICE_FAULTS or code in _IN_A_CHILD


def is_login_fault(rv: str) -> bool:
    """The same of a login. It asks for nothing but the PIN, which has return values of its own: a vendor's is the device's."""
    return is_device_fault(rv) or rv.startswith("CKR_VENDOR_DEFINED")


# The name for what PKCS#11 has none for: every call went well, and the result is not what it must be.
WRONG_ANSWER = "CKR_SIGNATURE_INVALID"

# What ends a probe: the device or the session is gone, or an answer was wrong. Nothing that is tried afterwards changes that.
_BEYOND_DOUBT = (DEVICE_FAULTS - {"CKR_FUNCTION_FAILED", "CKR_GENERAL_ERROR"}) | {
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_ENCRYPTED_DATA_INVALID",
    "CKR_ENCRYPTED_DATA_LEN_RANGE",
    "CKR_PIN_EXPIRED",
    "CKR_SESSION_CLOSED",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_USER_NOT_LOGGED_IN",
    WRONG_ANSWER,
}
# What a token says that works, and does not do this: for want of the mechanism, by policy, or since a key has to stay.
_NOT_THIS = frozenset(
    {
        "CKR_ACTION_PROHIBITED",
        "CKR_ARGUMENTS_BAD",
        "CKR_CURVE_NOT_SUPPORTED",
        "CKR_DATA_INVALID",
        "CKR_DATA_LEN_RANGE",
        "CKR_DOMAIN_PARAMS_INVALID",
        "CKR_FUNCTION_NOT_SUPPORTED",
        "CKR_FUNCTION_REJECTED",
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
        "CKR_KEY_SIZE_RANGE",
        "CKR_KEY_TYPE_INCONSISTENT",
        "CKR_RANDOM_NO_RNG",
        "CKR_SESSION_READ_ONLY",
        "CKR_TOKEN_WRITE_PROTECTED",
    }
)
_ABOUT_THE_CALL = ("CKR_ATTRIBUTE_", "CKR_MECHANISM_", "CKR_TEMPLATE_")


def ends_probe(rv: str) -> bool:
    """Whether a token that answers so to one thing need not be asked for another."""
    return rv in _BEYOND_DOUBT


def is_refusal(rv: str) -> bool:
    """Whether the token has said that it does not do this. Otherwise nobody can tell: CKR_GENERAL_ERROR, and a vendor's own values."""
    return rv in _NOT_THIS or rv.startswith(_ABOUT_THE_CALL)


# A look that these ended says nothing about the device: another run kept the token, or it was not asked.
_NOT_ASKED = frozenset({"lock_timeout", "lock_unavailable", "not_probed"})
# PINs of a token that nobody can log in to, whoever's mistake that was.
_NO_LOGIN = frozenset({"pin_locked", "pin_not_initialized"})


def speaks_of_device(code: str | None, *, device_fault: bool) -> bool:
    """Whether a probe that failed with this failure code or ``CKR_`` name shows that the token cannot be used.

    A wrong PIN, a call that was wrong and a token that is in use do not: they are mistakes and doings of callers. That there is no such
    token, or no library, does.
    """
    if device_fault or code in _NO_LOGIN:
        return True
    return code is not None and code not in _NOT_ASKED and not code.startswith(("pin_", "CKR_"))
