# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to keyfleet.hsm: it may change in any release.

"""The registry's tables, one migration a step. A migration that has landed is never edited."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE instance (
        id TEXT PRIMARY KEY,
        position INTEGER NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        model TEXT NOT NULL,
        library TEXT NOT NULL,
        admins TEXT NOT NULL,
        max_sessions INTEGER NOT NULL,
        connection_timeout INTEGER NOT NULL,
        environment TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    );
    CREATE TABLE token (
        id INTEGER PRIMARY KEY,
        instance_id TEXT NOT NULL REFERENCES instance (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        selector_kind TEXT NOT NULL CHECK (selector_kind IN ('label', 'serial', 'slot')),
        selector_value TEXT NOT NULL,
        label TEXT,
        serial TEXT,
        slot TEXT,
        login INTEGER NOT NULL,
        user_type TEXT NOT NULL,
        pin_file TEXT,
        refused_pin_file TEXT,
        UNIQUE (instance_id, selector_kind, selector_value)
    );
    CREATE TABLE virtual_key (
        id TEXT PRIMARY KEY,
        token_id INTEGER NOT NULL REFERENCES token (id),
        kind TEXT NOT NULL CHECK (kind IN ('secret', 'private', 'public')),
        key_id BLOB NOT NULL,
        label TEXT NOT NULL,
        type TEXT NOT NULL,
        size INTEGER,
        curve TEXT,
        operations TEXT NOT NULL,
        origin TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        UNIQUE (token_id, kind, key_id, label)
    );
    CREATE TABLE config_reference (
        path TEXT NOT NULL,
        instance_id TEXT NOT NULL REFERENCES instance (id),
        PRIMARY KEY (path, instance_id)
    );
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        run TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        details TEXT NOT NULL
    );
    """,
    """
    ALTER TABLE virtual_key ADD COLUMN fingerprint TEXT;
    ALTER TABLE virtual_key ADD COLUMN public_key BLOB;
    ALTER TABLE virtual_key ADD COLUMN made_at TEXT;
    ALTER TABLE virtual_key ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE pending_key (
        token_id INTEGER NOT NULL REFERENCES token (id) ON DELETE CASCADE,
        label TEXT NOT NULL,
        key_id BLOB NOT NULL,
        imported INTEGER NOT NULL,
        replaces INTEGER NOT NULL,
        nameless INTEGER NOT NULL,
        run TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (token_id, label)
    )
    """,
    """
    CREATE TABLE hsm_group (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        apply_changes INTEGER NOT NULL,
        key_scan TEXT NOT NULL CHECK (key_scan IN ('all', 'own')),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    );
    CREATE TABLE group_member (
        group_id TEXT NOT NULL REFERENCES hsm_group (id) ON DELETE CASCADE,
        priority INTEGER NOT NULL,
        token_id INTEGER NOT NULL REFERENCES token (id),
        PRIMARY KEY (group_id, priority),
        UNIQUE (group_id, token_id)
    );
    CREATE TABLE virtual_key_3 (
        id TEXT PRIMARY KEY,
        group_id TEXT REFERENCES hsm_group (id),
        token_id INTEGER NOT NULL REFERENCES token (id),
        kind TEXT NOT NULL CHECK (kind IN ('secret', 'private', 'public')),
        key_id BLOB NOT NULL,
        label TEXT NOT NULL,
        type TEXT NOT NULL,
        size INTEGER,
        curve TEXT,
        operations TEXT NOT NULL,
        origin TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        fingerprint TEXT,
        public_key BLOB,
        made_at TEXT,
        generation INTEGER NOT NULL DEFAULT 1
    );
    INSERT INTO virtual_key_3 (id, token_id, kind, key_id, label, type, size, curve, operations, origin, state, created_at, updated_at,
        fingerprint, public_key, made_at, generation)
        SELECT id, token_id, kind, key_id, label, type, size, curve, operations, origin, state, created_at, updated_at, fingerprint,
        public_key, made_at, generation FROM virtual_key ORDER BY rowid;
    DROP TABLE virtual_key;
    ALTER TABLE virtual_key_3 RENAME TO virtual_key;
    CREATE UNIQUE INDEX virtual_key_of_token ON virtual_key (token_id, kind, key_id, label) WHERE group_id IS NULL;
    CREATE UNIQUE INDEX virtual_key_of_group ON virtual_key (group_id, kind, key_id, label) WHERE group_id IS NOT NULL;
    CREATE INDEX virtual_key_by_token ON virtual_key (token_id)
    """,
    """
    ALTER TABLE instance ADD COLUMN init_args TEXT NOT NULL DEFAULT '';
    ALTER TABLE instance ADD COLUMN os_locking INTEGER NOT NULL DEFAULT 0
    """,
    """
    CREATE TABLE strange_token (token TEXT PRIMARY KEY, refused TEXT NOT NULL)
    """,
    """
    ALTER TABLE virtual_key ADD COLUMN unreported TEXT NOT NULL DEFAULT '{}'
    """,
    """
    ALTER TABLE token ADD COLUMN pinpad INTEGER NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE instance ADD COLUMN layout TEXT NOT NULL DEFAULT 'pkcs11';
    CREATE TABLE pending_layout (
        token_id INTEGER NOT NULL REFERENCES token (id) ON DELETE CASCADE,
        key_id BLOB NOT NULL,
        label TEXT NOT NULL,
        public_key BLOB NOT NULL,
        operations TEXT NOT NULL,
        modifiable INTEGER,
        destroyable INTEGER,
        run TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (token_id, key_id, label)
    )
    """,
)
