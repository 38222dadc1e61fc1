"""Sessions that were ended before their time, as the database keeps them until that time has come."""

from __future__ import annotations

from modelmill.errors import Overloaded
from modelmill.store.engine import Connection

MOST = 1000
"""Ended sessions of one key that are kept: whoever has a key could make them without end."""


def end(connection: Connection, mark: str, key_id: str, until_s: int, now_s: float) -> None:
    """Keep that the session of a mark has ended; nothing happens the second time. Raises Overloaded."""
    connection.execute("DELETE FROM ended_sessions WHERE until_s <= :now", {"now": int(now_s)})
    kept = [kept for (kept,) in connection.rows("SELECT mark FROM ended_sessions WHERE key_id = :id", {"id": key_id})]
    if mark in kept:
        return
    if len(kept) >= MOST:
        hint = f"Rotate it, which ends all of them: modelmill keys rotate {key_id} --grace 0s"
        raise Overloaded("session", f"{MOST:,} sessions of the key were ended within a day already", hint, 3600.0)
    row = {"mark": mark, "key_id": key_id, "until_s": until_s}
    connection.execute("INSERT INTO ended_sessions (mark, key_id, until_s) VALUES (:mark, :key_id, :until_s)", row)
    connection.execute("UPDATE access_stamp SET changes = changes + 1")


def ended(connection: Connection) -> frozenset[str]:
    """The marks of all sessions that were ended before their time."""
    return frozenset(str(mark) for (mark,) in connection.rows("SELECT mark FROM ended_sessions"))
