"""A browser that is led step by step: it goes to a page, runs a script in it, and says what that gives."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

from patience import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


class Tab:
    """One page at a time, over the browser's two pipes: messages in JSON, each with a zero byte at its end."""

    def __init__(self, commands, answers):
        self.commands, self.answers = commands, answers
        self.number = 0
        self.rest = b""
        self.session = {}
        target = self._tell("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self._tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def open(self, url):
        """Go to a page."""
        self._tell("Page.navigate", url=url)

    def run(self, script):
        """What an expression is worth in the page that is shown; None where it fails, as while a page is loaded."""
        return self._tell("Runtime.evaluate", expression=script, returnByValue=True).get("result", {}).get("value")

    def sees(self, script):
        """Whether an expression holds, soon, in a page that is whole."""
        return eventually(lambda: self.run(f"document.readyState === 'complete' && ({script})") is True)

    def _tell(self, method, **params):
        self.number += 1
        said = {"id": self.number, "method": method, "params": params, **self.session}
        self.commands.write(json.dumps(said).encode() + b"\0")
        self.commands.flush()
        while (answer := self._next()).get("id") != self.number:
            pass
        return answer.get("result", {})

    def _next(self):
        while b"\0" not in self.rest:
            data = self.answers.read1(65536)
            assert data, "the browser ended"
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)


@contextlib.contextmanager
def browsing(profile):
    """A tab of a browser of its own, which ends with the block."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    pipes = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
    flags = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    browser = subprocess.Popen(
        ["bash", "-c", pipes, "bash", CHROMIUM, *flags],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    with os.fdopen(ours_out, "wb") as commands, os.fdopen(ours_in, "rb") as answers:
        try:
            yield Tab(commands, answers)
        finally:
            browser.terminate()
            browser.wait(20)
