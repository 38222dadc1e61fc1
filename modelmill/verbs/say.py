"""What a verb says: one JSON document, or a line for people."""

from __future__ import annotations

from typing import Any


def print_json(value: Any) -> None:
    """Print a value as the one JSON document on standard output."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def tell(value: Any, as_json: bool, text: str) -> None:
    """Print the value as JSON, or the text."""
    if as_json:
        print_json(value)
    else:
        print(text)
