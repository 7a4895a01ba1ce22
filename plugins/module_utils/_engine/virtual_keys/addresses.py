# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The UIDs of records, and their addresses for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from ..._model.addresses import prefix_of
from ..._model.pkcs11_uri import uri_in
from ..._model.records import InstanceRecord, VirtualKey, identity_in
from ..._model.uids import uid


class Addresses:
    """The UID of a record: that of its token, with the slot of this moment where the token was read."""

    def __init__(self, known: Sequence[InstanceRecord]) -> None:
        prefixes = prefix_of(known)
        tokens = [(instance, token) for instance in known for token in instance.tokens]
        self._of_token = {token.id: (prefixes[instance.name], token.slot) for instance, token in tokens}
        self._identities = {token.id: identity_in(instance, token) for instance, token in tokens}

    def seen(self, token_id: int | None, slot: int) -> None:
        self._of_token[token_id] = (self._of_token[token_id][0], slot)

    def of(self, record: VirtualKey) -> str:
        prefix, slot = self._of_token.get(record.token_id, (None, None))
        if prefix is None or slot is None:  # an instance that was never reached: there is no address yet
            return record.key_id_text
        return uid(prefix, slot, record.key_id_text)

    def uri(self, record: VirtualKey) -> str | None:
        """The PKCS#11 URI of the record's key; None while nothing is known of its token, since any token would be meant."""
        identity = self._identities.get(record.token_id)
        if identity is None or not (identity.label or identity.serial_tells):
            return None
        return uri_in(identity, record.label, record.key_id, record.kind)
