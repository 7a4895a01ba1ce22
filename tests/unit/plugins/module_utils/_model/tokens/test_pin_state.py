# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a login may be tried: every combination of flags."""

from __future__ import annotations

import pytest
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.errors import PinError
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.faults import is_device_fault, is_login_fault
from ansible_collections.keyfleet.hsm.plugins.module_utils._model.tokens.pin_state import check_login_allowed, pin_state
from hypothesis import given
from hypothesis import strategies as st

FLAGS = st.sets(st.sampled_from(["USER_PIN_COUNT_LOW", "USER_PIN_FINAL_TRY", "USER_PIN_LOCKED", "USER_PIN_TO_BE_CHANGED", "SO_PIN_LOCKED"]))


def allowed(flags: set[str], *, so: bool = False, allow_low: bool = False) -> bool:
    try:
        check_login_allowed(flags, "token 't'", so=so, allow_low=allow_low)
    except PinError:
        return False
    return True


@given(FLAGS, st.booleans())
def test_a_locked_pin_is_never_tried(flags: set[str], allow_low: bool) -> None:
    assert not allowed(flags | {"USER_PIN_INITIALIZED", "USER_PIN_LOCKED"}, allow_low=allow_low)
    assert not allowed(flags | {"SO_PIN_LOCKED"}, so=True, allow_low=allow_low)
    assert not allowed(flags, allow_low=allow_low)  # no user PIN yet


@given(FLAGS)
def test_a_low_count_needs_the_operators_word(flags: set[str]) -> None:
    flags = (flags | {"USER_PIN_INITIALIZED"}) - {"USER_PIN_LOCKED"}
    low = bool(flags & {"USER_PIN_COUNT_LOW", "USER_PIN_FINAL_TRY"})
    assert allowed(flags) is not low
    assert allowed(flags, allow_low=True)


@given(FLAGS)
def test_one_users_flags_do_not_stop_the_other(flags: set[str]) -> None:
    user_flags = {flag for flag in flags if flag.startswith("USER")}
    assert allowed(user_flags, so=True)


def test_the_gravest_state_is_named() -> None:
    flags = {"USER_PIN_INITIALIZED", "USER_PIN_COUNT_LOW"}
    assert pin_state(flags) == "low"
    assert pin_state(flags | {"USER_PIN_FINAL_TRY"}) == "final_try"
    assert pin_state(flags | {"USER_PIN_FINAL_TRY", "USER_PIN_LOCKED"}) == "locked"
    assert pin_state({"USER_PIN_INITIALIZED"}) == "ok"
    assert pin_state(set()) == "not_initialized"


@pytest.mark.parametrize(
    ("rv", "device"),
    [
        ("CKR_DEVICE_ERROR", True),
        ("CKR_TOKEN_NOT_RECOGNIZED", True),
        ("CKR_SESSION_COUNT", True),
        ("CKR_ARGUMENTS_BAD", False),
        ("CKR_PIN_INCORRECT", False),
        ("CKR_TEMPLATE_INCONSISTENT", False),
        ("CKR_MECHANISM_INVALID", False),
        ("CKR_KEY_HANDLE_INVALID", False),
    ],
)
def test_whose_fault(rv: str, device: bool) -> None:
    assert is_device_fault(rv) is is_login_fault(rv) is device


def test_a_vendors_own_answer_to_a_login_is_the_devices() -> None:
    assert is_login_fault("CKR_VENDOR_DEFINED (0x80000067)") and not is_login_fault("CKR_USER_ALREADY_LOGGED_IN")
