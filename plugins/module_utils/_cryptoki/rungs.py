# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""A template is a ladder: tokens refuse what they do not know, even where it is asked to be false.

First everything is said, since a provider's own default counts for what is left out. After a refusal the key is made with less said,
and read back: what it may do without having been asked for is taken away, or the key is destroyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from .._model.errors import Cryptoki
from .._model.keys.objects import Key, KeyObject
from . import direct
from .allowed import ATTRIBUTE, unpacked
from .attributes import read
from .binding import pkcs11
from .curves import blame_curve
from .destroying import destroying
from .errors import calling
from .objects import Inventory, describe, key_of, search_label, set_attribute
from .second_look import CHANGED
from .session import Session

Template = Mapping[Any, Any]
Templates = Mapping[str, Template]  # by the kind of object: secret, private, public
Make = Callable[[Templates, bool], Iterable[Any]]  # whether on the token; otherwise for this session, without a name

# What a token answers to a template that it does not take; tpm2-pkcs11 says GENERAL_ERROR, and so does a token that cannot write.
_UNCERTAIN = "CKR_GENERAL_ERROR"
REFUSALS = frozenset(
    {
        "CKR_ARGUMENTS_BAD",
        "CKR_ATTRIBUTE_READ_ONLY",
        "CKR_ATTRIBUTE_TYPE_INVALID",
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_TEMPLATE_INCOMPLETE",
        "CKR_TEMPLATE_INCONSISTENT",
        _UNCERTAIN,
    }
)
# False is not PKCS#11's default for these (PKCS#11 3.1, sections 4.4 and 4.9): they are left out last, and taken away last, in this order.
# Without CKA_MODIFIABLE nothing else can be changed, and without CKA_DESTROYABLE a bad key could not go.
_GUARDS = ("EXTRACTABLE", "MODIFIABLE", "DESTROYABLE")
# Among an error's details:
NOT_AS_ASKED = "not_as_asked"  # what the call made, if anything, was made with less said
NOT_STORED = "not_stored"  # the token takes the template, and has not stored the key


def keep(inventory: Inventory, made: Iterable[Any]) -> Key:
    """The key that these raw objects are, read back, and known to ``inventory``. Raises python-pkcs11's errors."""
    described = [(raw, describe(raw)) for raw in made]
    inventory.raw |= {item.handle: raw for raw, item in described if item is not None}
    return key_of(item for _raw, item in described if item is not None)


def climb(session: Session, inventory: Inventory, label: str, wanted: Templates, make: Make, *, curve: str | None = None) -> Key:
    """Make objects with as much of ``wanted`` as the token takes. What is left out is python-pkcs11's DEFAULT in what ``make`` is given.
    ``curve`` is an EC key's: one that the token lacks is named, and no other template is tried.

    Nothing is made a second time where something may be there already, or where the token cannot store. Only objects that ``make`` has
    given are ever destroyed. Raises :class:`Cryptoki`. Then something may have been made all the same; with ``NOT_AS_ASKED`` among the
    details it is not the key.
    """
    first: Cryptoki | None = None
    for dropped in _rungs(wanted):
        given = {kind: _without(template, dropped[kind]) for kind, template in wanted.items()}
        try:
            raws = list(make(given, True))
        except Cryptoki as error:
            if any(dropped.values()):
                error.details[NOT_AS_ASKED] = True
            blame_curve(session, curve, error)
            if error.rv in REFUSALS and _refuses_restriction(make, given):
                text = f"takes no CKA_ALLOWED_MECHANISMS for key '{label}' ({error.rv}), so the key cannot be restricted"
                error.message = f"{session.token} {text}"
                error.device, error.details["attribute"] = False, "CKA_ALLOWED_MECHANISMS"
                raise
            if error.rv not in REFUSALS or _may_be_left(session, inventory, label):
                raise
            if error.rv == _UNCERTAIN and _is_taken(make, given):
                error.details[NOT_STORED] = True
                error.message += "; the token takes such a key for a session: see whether it has room and may write"
                error.message += " and keeps CKA_ALLOWED_MECHANISMS" if _is_restricted(given) else ""
                raise
            first = first or error
        else:
            return _made(session, inventory, label, raws, given, dropped)
    raise first or ValueError("a template has at least one rung")


def _is_taken(make: Make, given: Templates) -> bool:
    """Whether the token takes these templates where nothing has to be stored: then they are not what it refuses."""
    try:
        raws = list(make(given, False))
    except Cryptoki:
        return False
    for raw in raws:
        with suppress(pkcs11.PKCS11Error, Cryptoki):
            direct.destroy(raw, "destroying a key of the session")
    return True


def _is_restricted(given: Templates) -> bool:
    return any(pkcs11.Attribute[ATTRIBUTE] in template for template in given.values())


def _refuses_restriction(make: Make, given: Templates) -> bool:
    """Whether the token would take these templates, for a session, without a restriction to mechanisms."""
    if not _is_restricted(given):
        return False
    free = {kind: _without(template, [ATTRIBUTE]) for kind, template in given.items()}
    return not _is_taken(make, given) and _is_taken(make, free)


def _made(
    session: Session, inventory: Inventory, label: str, raws: list[Any], given: Templates, dropped: Mapping[str, Iterable[str]]
) -> Key:
    """Read back what was made. With less said it is made what was asked for, or destroyed. Raises :class:`Cryptoki`."""
    less, restricted = any(dropped.values()), _is_restricted(given)
    try:
        with calling(f"reading key '{label}' back"):
            key = keep(inventory, raws)
        if less:
            _take_away_all(inventory, key, dropped)
            with calling(f"reading key '{label}' back"):
                key = keep(inventory, raws)
        _check_restriction(key, given)
    except Cryptoki as error:
        if less or restricted:
            error.details[NOT_AS_ASKED] = True
            _destroy(session, inventory, label, raws, error)
        raise
    return key


def _rungs(wanted: Templates) -> list[dict[str, frozenset[str]]]:
    """What is left out of each template, step by step: attributes that are false, without ``CKA_``."""
    false = {kind: frozenset(name.name for name, value in template.items() if value is False) for kind, template in wanted.items()}
    steps = [dict.fromkeys(wanted, frozenset[str]()), {kind: names.difference(_GUARDS) for kind, names in false.items()}, false]
    return [step for number, step in enumerate(steps) if step not in steps[:number]]


def _without(template: Template, dropped: Iterable[str]) -> Template:
    return {**template, **{pkcs11.Attribute[name]: pkcs11.constants.DEFAULT for name in dropped}}


def _may_be_left(session: Session, inventory: Inventory, label: str) -> bool:
    """Whether a failed call left something: whoever asked for the key looks once more, and says so."""
    try:
        return any(search_label(session, inventory, label, set(inventory.raw)))
    except Cryptoki:
        return True  # nobody can tell


def _check_restriction(key: Key, given: Templates) -> None:
    for item in key.objects:
        wanted, has = given[item.kind].get(pkcs11.Attribute[ATTRIBUTE]), item.allowed_mechanisms
        if wanted is not None and has != unpacked(wanted):
            says = "does not report it" if has is None else f"says {', '.join(has) or 'nothing'}"
            text = f"the {item.kind} key '{item.label}' was made without the CKA_{ATTRIBUTE} that was asked for: the token {says}"
            raise Cryptoki(text, rv="CKR_TEMPLATE_INCONSISTENT", device=False, details={"attribute": f"CKA_{ATTRIBUTE}"})


def _take_away_all(inventory: Inventory, key: Key, dropped: Mapping[str, Iterable[str]]) -> None:
    for item in key.objects:
        names = set(dropped[item.kind]) - {"PRIVATE"}  # a public key that wants a login to be seen may do nothing more
        for name in [*sorted(names.difference(_GUARDS)), *(name for name in _GUARDS if name in names)]:
            _take_away(inventory, item, name)


def _take_away(inventory: Inventory, item: KeyObject, name: str) -> None:
    if _is_false(inventory, item, name):
        return
    cause = ""
    try:
        set_attribute(inventory, item, name, False)
        if _is_false(inventory, item, name):
            return
    except Cryptoki as error:
        if CHANGED in error.details or (error.device and error.rv != _UNCERTAIN):
            raise
        cause = f" ({error.rv})"
    text = f"the {item.kind} key '{item.label}' has CKA_{name} unasked: the token takes no template and no change that says false{cause}"
    raise Cryptoki(text, rv="CKR_TEMPLATE_INCONSISTENT", device=False, details={"attribute": f"CKA_{name}"})


def _is_false(inventory: Inventory, item: KeyObject, name: str) -> bool:
    """Whether the token says so. An attribute that the key has not is false where that is PKCS#11's default. Raises :class:`Cryptoki`."""
    with calling(f"reading CKA_{name} of the {item.kind} key '{item.label}'"):
        value = read(inventory.raw[item.handle], [name], known_by=[name]).get(name)
    return value is False or (value is None and name not in _GUARDS)


def _destroy(session: Session, inventory: Inventory, label: str, raws: Iterable[Any], error: Cryptoki) -> None:
    """Destroy what was made in this moment, by its handles: nothing else is lost with it. ``error`` says what came of it."""
    try:
        for raw in raws:
            handle, doing = int(raw.handle), f"destroying key '{label}', which is not as asked"
            with destroying(session, handle, doing):
                direct.destroy(raw, doing)
            inventory.raw.pop(handle, None)  # the handle may be another's next
    except Cryptoki as failure:
        how = "may still be on the token" if failure.details.get(CHANGED) else "could not be destroyed"
        error.details[CHANGED] = True
        error.message += f"; it {how} ({failure.rv}): destroy it by hand"
    else:
        error.message += "; it was destroyed"
