# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What a token's flags say about its PIN, and whether a login may be tried (PKCS#11 3.1, CK_TOKEN_INFO flags)."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import PinError

LOCKED, FINAL_TRY, LOW, TO_BE_CHANGED, NOT_SET, OK = (
    "locked",
    "final_try",
    "low",
    "to_be_changed",
    "not_initialized",
    "ok",
)


def pin_state(flags: Collection[str], *, so: bool = False) -> str:
    """The PIN's state in one word, the gravest first.

    ``flags`` are names without ``CKF_``, for example ``USER_PIN_COUNT_LOW``. ``so`` asks for the security officer's PIN.
    """
    who = "SO_PIN" if so else "USER_PIN"
    if not so and "USER_PIN_INITIALIZED" not in flags:
        return NOT_SET
    for suffix, state in (("LOCKED", LOCKED), ("FINAL_TRY", FINAL_TRY), ("COUNT_LOW", LOW), ("TO_BE_CHANGED", TO_BE_CHANGED)):
        if f"{who}_{suffix}" in flags:
            return state
    return OK


def check_login_allowed(flags: Collection[str], token: str, *, so: bool = False, allow_low: bool = False) -> None:
    """Raise :class:`PinError` when a login could lock the token ``token`` or cannot succeed.

    Called before every C_Login, with flags read just now.
    """
    whose = "SO PIN" if so else "user PIN"
    state = pin_state(flags, so=so)
    if state == NOT_SET:
        raise PinError(
            f"{token}: its user PIN has not been set yet. Give initialize: true with so_pin and pin to set it.",
            code="pin_not_initialized",
            details={"pin_state": state},
        )
    if state == LOCKED:
        way_out = (
            "Only the vendor's tools can help now."
            if so
            else "No login was tried. The security officer can set a new PIN (new_pin with so_pin)."
        )
        raise PinError(f"{token}: its {whose} is locked. {way_out}", code="pin_locked", details={"pin_state": state})
    if state in (FINAL_TRY, LOW) and not allow_low:
        left = "one try is left before it locks" if state == FINAL_TRY else "fewer tries are left than a full count"
        raise PinError(
            f"{token}: a wrong {whose} was tried since the last good login, and {left}. No login was tried now. First check "
            "which PIN is right, and that no other service keeps trying an old one. Then run once with "
            "allow_low_pin_count: true; a good login clears the flag.",
            code="pin_final_try" if state == FINAL_TRY else "pin_count_low",
            details={"pin_state": state},
        )


def pin_missing(token: object) -> PinError:
    """No PIN is known for a token that wants a login."""
    return PinError(f"{token}: no PIN is known for it. Give pin or pin_file.", code="pin_missing")
