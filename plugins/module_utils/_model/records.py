# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""What the registry holds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .keys.layout import PKCS11
from .keys.objects import Key, KeyName, describe_key, fingerprint_of
from .keys.states import ACTIVE
from .keys.types import SECRET
from .tokens.identity import Store, TokenIdentity, unpadded
from .tokens.secret import PINPAD
from .tokens.selectors import TokenSelector
from .tokens.starting import Starting
from .uids import key_id_text


@dataclass(frozen=True)
class TokenRecord:
    """A token of an instance. ``label``, ``serial`` and ``slot`` are what was last seen; None when it never was.

    ``refusals`` are marks (no content) of PINs that the token refused: see ``_engine.tokens.refused_pins``. ``pinpad``: a person types the
    PIN at the device.
    """

    selector: TokenSelector
    label: str | None = None
    serial: str | None = None
    slot: int | None = None
    login: bool = True
    user_type: str = "user"
    pin_file: str | None = None
    id: int | None = None
    refusals: frozenset[str] = frozenset()
    pinpad: bool = False

    @property
    def shown_login(self) -> bool | str:
        """``login`` as it is declared and returned."""
        return PINPAD if self.pinpad else self.login

    def named(self) -> str:
        """What a text calls it. One that is declared by its slot may have no label, or another token's."""
        if not self.label:
            return str(self.selector) if self.slot is None else f"slot {self.slot}"
        return f"{self.label} in slot {self.slot}" if self.selector.kind == "slot" else self.label

    def answers(self, selector: TokenSelector) -> bool:
        """Whether it is called so, or declared so."""
        return self.identity().answers(selector) or self.selector == selector

    def replaced_by(self, seen: TokenIdentity) -> str | None:
        """How the registered token is known from ``seen``, which answers in its place and is another one; None where it is the same."""
        own = self.identity()
        if not own.is_replaced_by(seen):
            return None
        return f"serial {own.serial}" if own.serial != seen.serial else f"label '{own.label}'"

    def place(self) -> str:
        """Where and as what it was last seen, for a text."""
        return f"in slot {self.slot} with label '{self.label or ''}' and serial {self.serial or 'unknown'}"

    def identity(self, store: Store | None = None, *, shared: bool = False) -> TokenIdentity:
        """The token as it was last seen in ``store``."""
        return TokenIdentity(store or Store(), unpadded(self.serial or ""), unpadded(self.label or ""), self.slot, shared)


@dataclass(frozen=True)
class InstanceRecord:
    """An instance. ``position`` counts registrations and gives the declared order behind the prefixes. ``layout`` is that of its keys:
    see :mod:`.keys.layout`."""

    name: str
    model: str
    library: str
    description: str = ""
    admins: tuple[str, ...] = ()
    max_sessions: int = 1024
    connection_timeout: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[TokenRecord, ...] = ()
    init_args: str = ""
    os_locking: bool = False
    layout: str = PKCS11
    position: int | None = None
    id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @property
    def starting(self) -> Starting:
        return Starting(self.environment, self.init_args, self.os_locking)


def options_of(instance: InstanceRecord, token: TokenRecord) -> dict[str, str | int]:
    """What names a token of the instance in a task: its label, its serial number where no label tells, else its slot."""
    if token.label and not any(row.label == token.label for row in instance.tokens if row.id != token.id):
        return TokenSelector("label", token.label).options()
    if token.serial and identity_in(instance, token).serial_tells:
        return TokenSelector("serial", token.serial).options()
    return token.selector.options() if token.slot is None else TokenSelector("slot", token.slot).options()


def is_same_token(
    instance: InstanceRecord, token: TokenRecord, other_instance: InstanceRecord, other: TokenRecord, *, any_model: bool
) -> bool:
    """Whether both are one token, which may be registered through two instances.

    A serial number is its maker's own (PKCS#11 3.1, section 3.2). The model ``other`` may be any maker's; with ``any_model`` two of
    it count as one maker's all the same.
    """
    if token.id is not None and token.id == other.id:
        return True
    one_model = instance.model == other_instance.model and (any_model or instance.model != "other")
    one, two = identity_in(instance, token), identity_in(other_instance, other)
    return one.is_same(two, one_maker=one_model)


def identity_in(instance: InstanceRecord, token: TokenRecord) -> TokenIdentity:
    """The tokens of one instance are different ones: those of one serial number share it."""
    own = token.identity()
    shared = any(row.id != token.id and row.identity().serial == own.serial for row in instance.tokens)
    return token.identity(Store.of(instance.library, instance.starting), shared=shared)


# What a sync of a group records: every key of the token, or only those that were made or named through the group.
SCAN_ALL, SCAN_OWN = "all", "own"


@dataclass(frozen=True)
class GroupRecord:
    """Tokens in priority order that serve the same virtual keys. ``members`` are ids of tokens, the first to be tried first.

    ``apply_changes``: whether what is changed on a virtual key is changed on the key in the HSM too.
    """

    name: str
    description: str = ""
    apply_changes: bool = False
    key_scan: str = SCAN_ALL
    members: tuple[int, ...] = ()
    id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True)
class PendingKey:
    """A key that a run set out to make, noted before the first call. One that is still there tells of a run that died.

    ``replaces``: a key that was there under this name was to be destroyed for it. ``nameless`` is how many key objects the
    token held before that were cut off.
    """

    token_id: int
    label: str
    key_id: bytes
    imported: bool
    replaces: bool
    nameless: int


@dataclass(frozen=True)
class VirtualKey:
    """A record that points at a key in an HSM; never key material. ``kind`` is secret, private (a pair) or public.

    ``fingerprint`` is that of the key when it was recorded, ``public_key`` the DER of a pair's SubjectPublicKeyInfo.
    ``generation`` is above 1 only for a key that this collection made as such. ``made_at`` is when this collection made the
    key, None for one that it found; ``created_at`` is when the record was made. ``group_id`` is None for a key that is in no
    group; of one that is, ``token_id`` is the member on which it was found or made. ``unreported`` are operations and attributes that
    we have set on that token and that it does not report. ``allowed_mechanisms`` are those that the secret or private key is restricted to,
    sorted; empty: to none. None: no token has reported it.
    """

    token_id: int
    kind: str
    key_id: bytes
    label: str
    type: str
    size: int | None
    curve: str | None
    operations: tuple[str, ...]
    origin: str
    state: str = ACTIVE
    id: str | None = None
    fingerprint: str | None = None
    public_key: bytes | None = None
    made_at: str | None = None
    created_at: str | None = None
    generation: int = 1
    group_id: str | None = None
    unreported: tuple[tuple[str, bool], ...] = ()
    allowed_mechanisms: tuple[str, ...] | None = None

    @property
    def name(self) -> KeyName:
        """What a record is found by: within a group, or within a token for a key that is in none."""
        return (self.kind, self.key_id, self.label)

    @property
    def public_fingerprint(self) -> str | None:
        """The fingerprint of a pair's public key; None for a secret key."""
        if self.kind == SECRET:
            return None
        return self.fingerprint or (fingerprint_of(self.public_key) if self.public_key else None)

    @property
    def key_id_text(self) -> str:
        return key_id_text(self.key_id, self.label)

    def moved_to(self, token_id: int) -> VirtualKey:
        """The record of the key on another token. What is remembered of the object on the one before says nothing of that one."""
        return replace(self, token_id=token_id, unreported=())


def virtual_of(
    key: Key, token_id: int, origin: str, *, fingerprint: str | None = None, made_at: str | None = None, generation: int = 1
) -> VirtualKey:
    """The record that points at ``key``. ``fingerprint``: one that the token does not give by itself."""
    main = key.main
    described = describe_key(key)
    return VirtualKey(
        token_id=token_id,
        kind=main.kind,
        key_id=main.key_id,
        label=main.label,
        type=main.type,
        size=described["size"],
        curve=main.curve,
        operations=key.operations,
        origin=origin,
        fingerprint=key.fingerprint or fingerprint,
        public_key=key.public.public_key if key.public else None,
        made_at=made_at,
        generation=generation,
        allowed_mechanisms=main.allowed_mechanisms,
    )
