"""How the verbs that mill run: progress as it comes, an offer after Ctrl-C, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.verbs.say import print_json

if TYPE_CHECKING:
    from modelmill.spec import Spec


def follow(spec: Spec, *, promote: bool, fresh: bool, json: bool, quiet: bool, verbose: bool) -> None:
    """Run a spec and show what comes of it; interrupted on a terminal, offer to publish the best so far."""
    from modelmill.api import home
    from modelmill.mill import Options, build
    from modelmill.screen import Screen

    place = home()
    with Screen(quiet=quiet, verbose=verbose, goal=spec.goal) as screen:
        try:
            report = screen.follow(build(spec, place, Options(promote=promote, fresh=fresh)))
        except KeyboardInterrupt:
            if not screen.offers_best():
                raise
            report = screen.follow(build(spec, place, Options(promote=promote, finish=True)))
    if json:
        print_json(report)
    elif not quiet:
        screen.report(report)
