# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What an entry of ``keys:`` declares and nobody says of the key that is there: neither the token, nor the registry of what we made.

It is neither met nor a difference. ``unverifiable`` says whether that is an error or a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...._model.keys.objects import REMEMBERED, Key, describe_key, recall
from ...._model.keys.spec import KeySpec
from ...._model.keys.types import PUBLIC, operations_of
from ...._model.records import VirtualKey
from ...virtual_keys.identity import is_another
from .plan import KeyPlan, Refusal

_ON_ANY_HALF = ("modifiable", "destroyable")


def remembered(key: Key, known: VirtualKey | None, *, same_token: bool) -> Key:
    """The key, with what its token does not say as it was recorded. What was set of it is known of the object that it was set on only."""
    if known is None or known.type != key.main.type or is_another(key, known, check_values=same_token):
        return key
    return recall(key, dict(known.unreported) if same_token else {}, known.size, known.curve)


def untold(spec: KeySpec, key: Key) -> list[tuple[str, str]]:
    """What is declared and not said, each as the option and the attribute without ``CKA_``."""
    main, is_now, found = key.main, describe_key(key), []
    if spec.material is None:  # an import is compared by its value
        if spec.size is not None and is_now["size"] is None:
            found.append(("size", "MODULUS" if main.type == "RSA" else "VALUE_LEN"))
        if spec.curve is not None and is_now["curve"] is None:
            found.append(("curve", "EC_PARAMS"))
    for name in REMEMBERED:
        declared = getattr(spec, name) is not None and (main.kind != PUBLIC or name in _ON_ANY_HALF)
        if declared and main.has(name) is None:
            found.append((name, name.upper()))
    if spec.allowed_mechanisms is not None and main.kind != PUBLIC and main.allowed_mechanisms is None:
        found.append(("allowed_mechanisms", "ALLOWED_MECHANISMS"))
    if spec.operations is not None:
        for item in key.objects:
            names = [name for name in operations_of(item.type, item.kind) if item.has(name) is None]
            found += [("operations", name.upper()) for name in names]
    return found


def _problem(spec: KeySpec, found: Sequence[tuple[str, str]]) -> str:
    options = _options(found)
    return (
        f"{spec.where}.{found[0][0]}: the token does not report {_attributes(found)} of '{spec.label}', so {options} cannot be verified. "
        f"Nothing was changed. Set unverifiable: warn, or remove {options} from the entry."
    )


def _warning(spec: KeySpec, found: Sequence[tuple[str, str]]) -> str:
    return f"key '{spec.label}': the token does not report {_attributes(found)}, so {_options(found)} could not be verified."


def _options(found: Sequence[tuple[str, str]]) -> str:
    return ", ".join(dict.fromkeys(option for option, _attribute in found))


def _attributes(found: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"CKA_{attribute}" for _option, attribute in found)


def judged(plan: KeyPlan, found: Sequence[tuple[str, str]]) -> KeyPlan | Refusal:
    """The plan, as ``unverifiable`` wants it where ``found`` is declared and cannot be verified."""
    if not found:
        return plan
    if plan.spec.unverifiable == "fail":
        return Refusal(_problem(plan.spec, found))
    return replace(plan, warnings=(*plan.warnings, _warning(plan.spec, found)))
