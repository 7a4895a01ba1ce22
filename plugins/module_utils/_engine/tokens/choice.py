# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token of which instance a task means, by the registry alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..._model.errors import TokenError
from ..._model.records import InstanceRecord, TokenRecord
from ..._model.tokens.selectors import TokenSelector

# In check mode these may be what an earlier task of the same play would have registered.
NOT_YET_REGISTERED = ("registry_missing", "no_instance", "token_not_declared", "no_group")


def find_instance(known: Sequence[InstanceRecord], name: str, registry: str) -> InstanceRecord:
    """The instance called ``name``. Raises :class:`TokenError` that lists those there are."""
    for record in known:
        if record.name == name:
            return record
    names = ", ".join(f"'{record.name}'" for record in known) or "none"
    raise TokenError(
        f"instance: there is no instance '{name}' in {registry}; registered: {names}. Register it with hsm_instance first.",
        code="no_instance",
        details={"registered": [record.name for record in known]},
    )


def _answers(token: TokenRecord, selector: TokenSelector) -> bool:
    seen = {"label": token.label, "serial": token.serial, "slot": token.slot}[selector.kind]
    return seen == selector.value or token.selector == selector


def chosen_tokens(record: InstanceRecord, selector: TokenSelector | None) -> list[TokenRecord]:
    """The tokens of ``record`` that the task's selector names; all of them without one. Raises :class:`TokenError`."""
    tokens = list(record.tokens)
    if selector is not None:
        tokens = [token for token in tokens if _answers(token, selector)]
        if len(tokens) != 1:
            option = "slot" if selector.kind == "slot" else f"token_{selector.kind}"
            raise TokenError(
                f"{option}: instance '{record.name}' has {len(tokens) or 'no'} token with {selector}; it has {_listed(record)}.",
                code="token_not_declared",
            )
    for token in tokens:
        if token.user_type == "so":
            raise TokenError(
                f"token '{token.named()}' of instance '{record.name}' is registered with user_type: so, and the security officer sees "
                "no private keys. Register it with the user's PIN.",
                code="login_needed",
            )
    return tokens


def _listed(record: InstanceRecord) -> str:
    return ", ".join(f"'{token.named()}'" for token in record.tokens) or "no tokens"
