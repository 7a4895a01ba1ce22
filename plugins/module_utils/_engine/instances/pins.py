# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which PINs the work on a declared token uses, and where they come from. Read before the provider is touched."""

from __future__ import annotations

from dataclasses import dataclass

from ..._model.errors import PinError
from ..._model.tokens.instance_spec import TokenSpec
from ..._model.tokens.pin_state import pin_missing
from ..._model.tokens.secret import Secret
from ..files.private_files import pin_in_the_way, pin_of, read_pin, usable_pin_of


@dataclass(frozen=True)
class Pins:
    """The PINs of one token.

    ``pin`` is in force when the work is done, ``old_pin`` is the one that it takes the place of. ``source`` is the file of the PIN that
    is tried first, ``so_source`` that of the SO PIN; None where an option gave it. ``interrupted``: an earlier change to ``pin`` was
    begun, and the token was asked for it. ``by_so``: the security officer sets it. ``differs``: the PIN file holds another one.
    """

    pin: Secret | None = None
    so_pin: Secret | None = None
    old_pin: Secret | None = None
    source: str | None = None
    so_source: str | None = None
    write_file: bool = False
    interrupted: bool = False
    by_so: bool = False
    differs: bool = False


def pending_file(pin_file: str) -> str:
    """Where a new PIN waits while the token is given it."""
    return f"{pin_file}.new"


def read_pins(spec: TokenSpec) -> Pins:
    """The PINs of a declared token. Raises :class:`PinError`."""
    option = f"{spec.where}.pin_file"
    so_pin, so_source = spec.so_pin, None
    if so_pin is None and spec.so_pin_file:
        so_pin, so_source = read_pin(spec.so_pin_file, f"{spec.where}.so_pin_file"), spec.so_pin_file
    if not spec.login or spec.pinpad:
        return Pins(so_pin=so_pin, so_source=so_source)
    if spec.new_pin is not None and spec.pin_file:
        return _new_pin(spec, spec.pin_file, spec.new_pin, so_pin, so_source)
    if spec.pin is not None:
        write_file = spec.pin_file is not None and usable_pin_of(spec.pin_file, option) != spec.pin
        source = None if write_file else spec.pin_file
        differs = write_file and pin_in_the_way(spec.pin_file or "", option) not in (None, spec.pin)
        return Pins(spec.pin, so_pin, source=source, so_source=so_source, write_file=write_file, differs=differs)
    if spec.pin_file is not None:
        return Pins(read_pin(spec.pin_file, option), so_pin, source=spec.pin_file, so_source=so_source)
    if spec.user_type == "so" and so_pin is not None:
        return Pins(so_pin=so_pin, so_source=so_source)
    raise pin_missing(spec.where)


def _new_pin(spec: TokenSpec, pin_file: str, new_pin: Secret, so_pin: Secret | None, so_source: str | None) -> Pins:
    """Whether the PIN in force is the new one already. A file that cannot be read does not say so, and ends the work."""
    option, pending = f"{spec.where}.pin_file", pending_file(pin_file)
    in_file, waiting = pin_of(pin_file, option), pin_of(pending, option)
    if in_file == new_pin:
        return Pins(new_pin, so_pin, source=pin_file, so_source=so_source)
    old_pin = spec.pin or in_file
    by_so = old_pin is None and so_pin is not None
    if waiting == new_pin and not by_so:
        # A change was interrupted. The token most likely has the new PIN; if not, the next run takes the old one.
        return Pins(new_pin, so_pin, source=pending, so_source=so_source, write_file=True, interrupted=True)
    if waiting not in (None, new_pin):
        raise PinError(
            f"{spec.where}.new_pin: an earlier change to another PIN was interrupted, and {pending} may hold the PIN in force. "
            "Run once with that PIN as new_pin to finish it, or remove the file if the token never took it.",
            code="pin_change_unfinished",
        )
    if old_pin is None and so_pin is None:
        raise PinError(
            f"{spec.where}.new_pin: the PIN that is in force is not known: give pin, or so_pin to set it as security officer.",
            code="pin_missing",
        )
    source = pin_file if old_pin == in_file else None
    differs = spec.pin is not None and in_file not in (None, spec.pin)
    return Pins(new_pin, so_pin, old_pin, source=source, so_source=so_source, write_file=True, by_so=by_so, differs=differs)
