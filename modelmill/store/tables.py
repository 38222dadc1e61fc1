"""Every table of the database, in SQL that SQLite and PostgreSQL both read, and the steps from older schemas.

Structured values are JSON in TEXT columns; times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

VERSION = 6
"""The schema that this modelmill reads and writes."""

# Points of the curves of trials, as they are reported; a trial that ended holds its whole curve itself.
POINTS = """CREATE TABLE points (
        study_id INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        place INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (study_id, number, place)
    )"""

# What the service does with requests for NAME alone, and how new versions take over.
TRAFFIC: tuple[str, ...] = (
    "CREATE TABLE routes (name TEXT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL, router TEXT NOT NULL)",
    """CREATE TABLE rollouts (
        id INTEGER NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        base INTEGER NOT NULL,
        plan TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'rolled_back', 'aborted')),
        step INTEGER NOT NULL,
        seconds DOUBLE PRECISION NOT NULL,
        reason TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        changed_ms BIGINT NOT NULL
    )""",
    "CREATE INDEX rollouts_by_name ON rollouts (name, id)",
    # What led from one step to the next, with the evidence of that moment.
    """CREATE TABLE rollout_steps (
        rollout_id INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        at_ms BIGINT NOT NULL,
        state TEXT NOT NULL,
        share DOUBLE PRECISION NOT NULL,
        reason TEXT NOT NULL,
        evidence TEXT NOT NULL,
        PRIMARY KEY (rollout_id, place)
    )""",
    # What each server has counted since it started; a row only grows, so that writing it twice counts nothing twice.
    """CREATE TABLE counts (
        key TEXT NOT NULL,
        server TEXT NOT NULL,
        step INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (key, server, step)
    )""",
    # Who drives: the holder moves the beat, and whoever takes over moves the token.
    """CREATE TABLE leases (
        name TEXT NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        token BIGINT NOT NULL,
        beat BIGINT NOT NULL
    )""",
)

# Who may use the service. Of a key only a digest is kept; the one before it counts until its time is over.
KEYS = """CREATE TABLE keys (
        id TEXT NOT NULL PRIMARY KEY,
        label TEXT NOT NULL,
        tenant TEXT NOT NULL,
        roles TEXT NOT NULL,
        models TEXT NOT NULL,
        quota TEXT NOT NULL,
        digest TEXT NOT NULL,
        before_digest TEXT NOT NULL,
        before_until_ms BIGINT NOT NULL,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL,
        revoked_ms BIGINT NOT NULL
    )"""

TENANTS = """CREATE TABLE tenants (
        name TEXT NOT NULL PRIMARY KEY,
        tier TEXT NOT NULL,
        models TEXT NOT NULL,
        quota TEXT NOT NULL,
        created_ms BIGINT NOT NULL
    )"""

# Every change by whomever; each row's digest covers the row before it, so that none can be changed or taken out alone.
AUDIT = """CREATE TABLE audit (
        id INTEGER NOT NULL PRIMARY KEY,
        at_ms BIGINT NOT NULL,
        who TEXT NOT NULL,
        tenant TEXT NOT NULL,
        origin TEXT NOT NULL,
        verb TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        digest TEXT NOT NULL
    )"""

# One row of its own, bumped by every change of keys, tenants and sessions: what a service polls.
ACCESS: tuple[str, ...] = (
    KEYS,
    TENANTS,
    AUDIT,
    "CREATE TABLE access_stamp (changes BIGINT NOT NULL)",
    "INSERT INTO access_stamp (changes) VALUES (0)",
)

# Sessions of people who have signed out, until they would have been over: which they are, and nothing that opens.
SESSIONS = """CREATE TABLE ended_sessions (
        mark TEXT NOT NULL PRIMARY KEY,
        key_id TEXT NOT NULL,
        until_s BIGINT NOT NULL
    )"""

# What was done to one thing is found without reading what was done to all others.
DONE_TO = "CREATE INDEX audit_by_subject ON audit (subject, verb, id)"

TABLES: tuple[str, ...] = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    # One row, bumped by every change of the registry: what a service polls.
    "CREATE TABLE stamp (changes BIGINT NOT NULL)",
    """CREATE TABLE studies (
        id INTEGER NOT NULL PRIMARY KEY,
        key TEXT NOT NULL,
        spec TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'interrupted')),
        created_ms BIGINT NOT NULL,
        data_digest TEXT NOT NULL DEFAULT '',
        seed BIGINT NOT NULL DEFAULT 0,
        seconds DOUBLE PRECISION NOT NULL DEFAULT 0,
        owner TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX studies_by_key ON studies (key, state)",
    """CREATE TABLE trials (
        study_id INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (study_id, number)
    )""",
    POINTS,
    # The last number given out outlives its version: the number of a deleted version is never given again.
    "CREATE TABLE names (name TEXT NOT NULL PRIMARY KEY, last_number INTEGER NOT NULL)",
    """CREATE TABLE versions (
        name TEXT NOT NULL REFERENCES names (name),
        number INTEGER NOT NULL,
        created_ms BIGINT NOT NULL,
        signature TEXT NOT NULL,
        lineage TEXT NOT NULL,
        notes TEXT NOT NULL,
        PRIMARY KEY (name, number)
    )""",
    """CREATE TABLE files (
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        file TEXT NOT NULL,
        digest TEXT NOT NULL,
        size BIGINT NOT NULL,
        PRIMARY KEY (name, number, file),
        FOREIGN KEY (name, number) REFERENCES versions (name, number) ON DELETE CASCADE
    )""",
    "CREATE INDEX files_by_digest ON files (digest)",
    """CREATE TABLE aliases (
        name TEXT NOT NULL,
        alias TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (name, alias),
        FOREIGN KEY (name, number) REFERENCES versions (name, number) ON DELETE CASCADE
    )""",
    # No foreign key: what happened to a version is kept when the version is gone.
    """CREATE TABLE events (
        id INTEGER NOT NULL PRIMARY KEY,
        at_ms BIGINT NOT NULL,
        verb TEXT NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        alias TEXT NOT NULL,
        note TEXT NOT NULL
    )""",
    "CREATE INDEX events_by_name ON events (name, id)",
    *TRAFFIC,
    *ACCESS,
    SESSIONS,
    DONE_TO,
)
"""What an empty database is given, in this order.

`id`s are given out as the largest plus one: every write transaction is alone, so that no two can pick the same.
"""

STEPS: dict[int, tuple[str, ...]] = {1: (POINTS,), 2: TRAFFIC, 3: ACCESS, 4: (SESSIONS,), 5: (DONE_TO,)}
"""Schema version: the statements that lead from it to the next one. Alembic takes this place once they grow."""
