# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What refers to an instance or a token that is to leave the registry."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..._model.errors import Refused
from ..._model.keys.states import DESTROYED
from ..._model.quoting import listed
from ..._model.records import TokenRecord
from ..._registry import groups, references, virtual_keys
from ..._registry.database import Database


@dataclass(frozen=True)
class Reason:
    """Why it may not leave, as a sentence with the way out, and as ``details``."""

    text: str
    details: dict[str, Any]


def reasons_of_files(database: Database, instance_id: str) -> Iterator[Reason]:
    """The files that name the instance and are still there."""
    if files := [path for path in references.of_instance(database, instance_id) if _is_there(path)]:
        yield Reason(f"{' and '.join(files)} refers to it. Render the file without it first (role kms).", {"files": files})


def reasons_of_tokens(database: Database, tokens: Sequence[TokenRecord], *, force: bool) -> Iterator[Reason]:
    """The groups that have one of these tokens, and the virtual keys that refer to one; the latter not with ``force``."""
    token_ids = _ids(tokens)
    if names := groups.of_tokens(database, token_ids):
        text = f"these groups have a connection to it: {listed(names)}. Take it out of those groups first with hsm_group."
        yield Reason(text, {"groups": names})
    keys = virtual_keys.of_tokens(database, token_ids)
    if keys and not force:
        labels = [key.label for key in keys]
        yield Reason(
            f"{len(labels)} virtual keys refer to it: {listed(labels)}. Make those keys absent first, or say force: true to forget the "
            "records (the keys in the HSM stay).",
            {"virtual_keys": labels},
        )


def described(database: Database, token: TokenRecord) -> dict[str, Any]:
    """A token with the names of its groups, and the labels of those of its keys that no group has: no other member has them. What was
    destroyed is not among them."""
    ids = _ids([token])
    keys = virtual_keys.of_tokens(database, ids)
    return {
        **{name: getattr(token, name) for name in ("label", "serial", "slot", "pin_file")},
        "groups": groups.of_tokens(database, ids),
        "in_no_group": [key.label for key in keys if key.group_id is None and key.state != DESTROYED],
    }


def _ids(tokens: Sequence[TokenRecord]) -> list[int]:
    return [token.id for token in tokens if token.id is not None]


def refuse(what: str, found: Iterable[Reason], **more: Any) -> None:
    """Raise :class:`Refused` with all of the reasons, if there are any. ``more`` goes into its details."""
    reasons = list(found)
    if not reasons:
        return
    details = {name: value for reason in reasons for name, value in reason.details.items()} | more
    raise Refused(f"{what}: refused, {' Also, '.join(reason.text for reason in reasons)}", code="in_use", details=details)


def _is_there(path: str) -> bool:
    """Whether a file that named an instance is still there; when that cannot be told, it counts as there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
