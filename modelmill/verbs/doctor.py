"""The verb `doctor`: what is installed, and what is missing."""

from __future__ import annotations

from modelmill.verbs.options import Json
from modelmill.verbs.say import print_json


def doctor(json: Json = False) -> None:
    """Say what is installed, how many cores, which instructions, and what is missing."""
    from modelmill.api import home
    from modelmill.doctor import examine

    found = examine(home().path)
    if json:
        print_json(found)
    else:
        from modelmill.listing import print_doctor

        print_doctor(found)
