# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token this is. A serial number alone does not tell: some libraries give all their tokens the same, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import whitespace

from .selectors import TokenSelector
from .starting import Starting

_PADDING = whitespace + "\0"


def unpadded(text: str) -> str:
    """A text of CK_TOKEN_INFO without what fills its fixed length: blanks (PKCS#11 3.1, section 3.2), and NUL with some vendors."""
    return text.strip(_PADDING)


@dataclass(frozen=True)
class Store:
    """What a library opens. The same library shows other tokens with other variables, or with other arguments of C_Initialize."""

    library: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    init_args: str = ""

    @classmethod
    def of(cls, library: str, starting: Starting) -> Store:
        return cls(library, tuple(sorted(starting.environment.items())), starting.init_args)


@dataclass(frozen=True)
class TokenIdentity:
    """A token as it was seen. ``shared``: another token of its library has the same serial number. ``slot`` is None where it was
    never seen."""

    store: Store = Store()
    serial: str = ""
    label: str = ""
    slot: int | None = None
    shared: bool = False

    @property
    def serial_tells(self) -> bool:
        """Whether the serial number tells this token from others. It does not where it is blank, all zeros or shared."""
        return bool(self.serial.strip("0")) and not self.shared

    def answers(self, selector: TokenSelector) -> bool:
        """Whether it is called so."""
        if selector.kind == "slot":
            return self.slot == selector.value
        return (self.label if selector.kind == "label" else self.serial) == unpadded(str(selector.value))

    def is_same(self, other: TokenIdentity, *, one_maker: bool) -> bool:
        """Whether both are one token. ``one_maker``: both are one maker's, whose serial numbers it is that are compared.

        A serial number that tells holds through any library and in any slot, with the label beside it. Without one, the token is that
        of this label in this slot of the same store.
        """
        if self.serial != other.serial or (self.label and other.label and self.label != other.label):
            return False
        if self.serial_tells and other.serial_tells:
            return one_maker or self.store.library == other.store.library
        return self.slot is not None and (self.store, self.slot) == (other.store, other.slot)

    def is_replaced_by(self, seen: TokenIdentity) -> bool:
        """Whether ``seen``, which is found where this token was, is another one. What was never seen of this one is blank."""
        if self.serial and self.serial != seen.serial:
            return True
        return not seen.serial_tells and bool(self.label) and self.label != seen.label

    def lock_parts(self, model: str) -> tuple[str, ...]:
        """What the token's lock goes by: the same by every way that leads to the token. ``model``: its own word for it, since a serial
        number is its maker's."""
        parts = (model, self.serial, self.label)
        if self.serial_tells:
            return parts
        store = (self.store.library, *(f"{name}={value}" for name, value in self.store.environment), self.store.init_args)
        return (*parts, *store, str(self.slot))


def way_to_one(found: Sequence[TokenIdentity]) -> str:
    """By what to name one of several tokens of one library that answer to the same name: ``label``, ``serial`` or ``slot``."""
    if len({token.label for token in found}) == len(found) and all(token.label for token in found):
        return "label"
    return "serial" if all(token.serial_tells for token in found) else "slot"
