# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""Which token of which instance a task means, by the registry alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..._model.errors import TokenError
from ..._model.quoting import listed
from ..._model.records import GroupRecord, InstanceRecord, TokenRecord, identity_in
from ..._model.tokens.identity import way_to_one
from ..._model.tokens.selectors import TokenSelector, option_of

# In check mode these may be what an earlier task of the same play would have registered.
NOT_YET_REGISTERED = ("registry_missing", "no_instance", "token_not_declared", "no_group")


_Record = TypeVar("_Record", InstanceRecord, GroupRecord)


def find_instance(known: Sequence[InstanceRecord], name: str, registry: str) -> InstanceRecord:
    """The instance called ``name``. Raises :class:`TokenError` that lists those there are."""
    return find_named(known, name, registry, "instance", "registered")


def find_named(known: Sequence[_Record], name: str, registry: str, what: str, in_details: str) -> _Record:
    """The record of this name. Raises :class:`TokenError` that lists those there are, also in its details."""
    names = [record.name for record in known]
    if name in names:
        return known[names.index(name)]
    raise TokenError(
        f"{what}: there is no {what} '{name}' in {registry}; registered: {listed(names) or 'none'}. Register it with hsm_{what} first.",
        code=f"no_{what}",
        details={in_details: names},
    )


def _way(record: InstanceRecord, tokens: Sequence[TokenRecord]) -> str:
    """The option by which these tokens differ."""
    return option_of(way_to_one([identity_in(record, token) for token in tokens]))


def chosen_tokens(record: InstanceRecord, selector: TokenSelector | None) -> list[TokenRecord]:
    """The tokens of ``record`` that the task's selector names; all of them without one. Never none. Raises :class:`TokenError`."""
    tokens = list(record.tokens)
    if selector is not None:
        tokens = [token for token in tokens if token.answers(selector)]
        option = option_of(selector.kind)
        if not tokens:
            there = listed([token.named() for token in record.tokens]) or "no tokens"
            raise TokenError(f"{option}: instance '{record.name}' has no token with {selector}; it has {there}.", code="token_not_declared")
        if len(tokens) > 1:
            raise TokenError(
                f"{option}: instance '{record.name}' has {len(tokens)} tokens with {selector}: say which with {_way(record, tokens)}.",
                code="several_tokens",
            )
    if not tokens:
        raise TokenError(f"instance '{record.name}' has no tokens: declare them with hsm_instance.", code="token_not_declared")
    for token in tokens:
        if token.user_type == "so":
            raise TokenError(
                f"token '{token.named()}' of instance '{record.name}' is registered with user_type: so, and the security officer sees "
                "no private keys. Register it with the user's PIN.",
                code="login_needed",
            )
    return tokens


def chosen_token(record: InstanceRecord, selector: TokenSelector | None) -> TokenRecord:
    """The one token that is meant. Raises :class:`TokenError`."""
    tokens = chosen_tokens(record, selector)
    if len(tokens) > 1:
        way = _way(record, tokens)
        names = listed([token.label or "" if way == "token_label" else token.named() for token in tokens])
        raise TokenError(
            f"token_label: instance '{record.name}' has several tokens ({names}): say which with {way}.",
            code="several_tokens",
        )
    return tokens[0]
