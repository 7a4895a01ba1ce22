# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What slots, tokens and mechanisms report of themselves, without a session: plain values to be shown.

Flags are names without ``CKF_``; what python-pkcs11 has no name for is one hex number behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .._model.errors import Cryptoki
from .._model.tokens.pin_state import pin_state
from .binding import mechanism_name, pkcs11
from .errors import calling
from .library_info import UNAVAILABLE, memory, version
from .provider import Provider, Token, read_token


def flag_names(value: int, known: Iterable[Any]) -> list[str]:
    """The names of the flags that are set; ``known`` are python-pkcs11's."""
    named = {int(flag): flag.name for flag in known if int(flag) & value}
    rest = int(value)
    for number in named:
        rest &= ~number
    return [*named.values(), *([hex(rest)] if rest else [])]


def read_slots(provider: Provider) -> Iterator[dict[str, Any]]:
    """Every slot with its token. What is wrong with one is its answer. Raises :class:`Cryptoki` where slots cannot be listed."""
    with provider.gate.looking():
        found = provider.slots()
    for slot in found:
        entry: dict[str, Any] = {
            "slot_id": int(slot.slot_id),
            "description": slot.slot_description,
            "manufacturer": slot.manufacturer_id,
            "hardware_version": version(slot.hardware_version),
            "firmware_version": version(slot.firmware_version),
            "flags": flag_names(slot.flags, pkcs11.SlotFlag),
            "token": None,
            "code": None,
            "error": None,
        }
        try:
            entry["token"] = _token(provider, slot)
        except Cryptoki as error:
            if error.rv != "CKR_TOKEN_NOT_PRESENT":
                entry |= {"code": error.code, "error": error.message}
        yield entry


def _token(provider: Provider, slot: Any) -> dict[str, Any]:
    with provider.gate.looking():
        token = read_token(slot)
        with calling(f"reading {token}", "C_GetTokenInfo"):
            raw = slot.get_token()
        lengths, sizes = provider.pin_lengths(token), memory(provider.library, token.slot_id)
    return {
        "label": token.label,
        "serial": token.serial,
        "manufacturer": raw.manufacturer_id,
        "model": token.model,
        "hardware_version": version(raw.hardware_version),
        "firmware_version": version(raw.firmware_version),
        "initialized": token.initialized,
        "flags": flag_names(raw.flags, pkcs11.TokenFlag),
        "pin_state": pin_state(token.flags) if token.initialized else None,
        "so_pin_state": pin_state(token.flags, so=True) if token.initialized else None,
        "pin_length": {"min": lengths[0] or None, "max": lengths[1] or None},
        "memory": sizes,
    }


def token_versions(token: Token) -> dict[str, str]:
    """The token's firmware and hardware, as it reports them. Raises :class:`Cryptoki`."""
    with calling(f"reading {token}", "C_GetTokenInfo"):
        raw = token.slot.get_token()
    return {"firmware": version(raw.firmware_version), "hardware": version(raw.hardware_version)}


def read_mechanisms(token: Token) -> list[Any]:
    """The token's mechanisms in the order of their numbers: python-pkcs11's members, a bare number for those that it does not know.

    Raises :class:`Cryptoki`.
    """
    with calling(f"reading the mechanisms of {token}", "C_GetMechanismList"):
        return sorted(token.slot.get_mechanisms(), key=int)


def read_mechanism(token: Token, mechanism: Any) -> dict[str, Any]:
    """Its name without ``CKM_``, or its number in hex; the sizes of its keys in the unit that PKCS#11 gives for it, None where the token
    does not report them; its flags. What is wrong with it is its answer."""
    name = mechanism_name(mechanism)
    entry: dict[str, Any] = {"name": name, "min_key_size": None, "max_key_size": None, "flags": [], "code": None}
    try:
        with calling(f"reading mechanism {name} of {token}", "C_GetMechanismInfo"):
            info = token.slot.get_mechanism_info(mechanism)
    except Cryptoki as error:
        return entry | {"code": error.code}
    least, most = (None if size in UNAVAILABLE else size for size in (info.min_key_length, info.max_key_length))
    return entry | {"min_key_size": least, "max_key_size": most, "flags": flag_names(info.flags, pkcs11.MechanismFlag)}
