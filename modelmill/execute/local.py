"""Runs jobs in worker processes on this machine, and outlives any of them: a worker that crashes, hangs or grows is
replaced, and its job is reported as failed with the reason."""

from __future__ import annotations

import contextlib
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from modelmill.errors import WorkError
from modelmill.execute.message import Message, Reason
from modelmill.execute.preload import context, without_main
from modelmill.execute.worker import Setup, work

LOOK_S = 0.1
"""How often running jobs are looked at: their time and their memory."""

GREETING_S = 10.0
"""How long a new process may take to its first word."""

STANDSTILL_S = 1.0
"""How long to wait for suspended workers to stand still; one that writes to a slow disk cannot at once."""

CHILDREN_S = 1.0
"""How often it is asked which processes a worker has started."""

GRACE_S = 1.0
"""How long an idle worker may take to end."""


class Pool:
    """Worker processes that live until `close`; state: the processes, the jobs they run and the jobs that wait.

    Nothing happens between calls but the jobs themselves: limits are watched while `messages` is waited on.
    """

    def __init__(
        self,
        workers: int,
        setup: Setup,
        arguments: Any = None,
        *,
        preload: Sequence[str] = (),
        time_limit_s: float | None = None,
        memory_limit_mb: float | None = None,
    ) -> None:
        """Start the workers; they are set up side by side while the caller goes on.

        memory_limit_mb: of one worker's resident memory, with the libraries that it holds.
        """
        self._context = context(preload)
        self._first = _first_word(setup, arguments)
        self._time_limit_s = time_limit_s
        self._memory_limit_mb = memory_limit_mb
        self._waiting: deque[tuple[str, Any]] = deque()
        self._said: deque[Message] = deque()
        self._paused = False
        self._workers: list[_Worker] = []
        try:
            for _ in range(max(1, workers)):
                self._workers.append(_Worker(self._context, self._first))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    @property
    def running(self) -> tuple[str, ...]:
        """The jobs that were submitted and have not ended."""
        return (*(worker.job for worker in self._workers if worker.job), *(job for job, _ in self._waiting))

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the workers."""
        return tuple(worker.pid for worker in self._workers)

    @property
    def free(self) -> int:
        """How many more jobs could run at once."""
        return max(0, self.size - len(self.running))

    def submit(self, job: str, payload: Any) -> None:
        """Run a job as soon as a worker is free."""
        self._waiting.append((job, payload))
        self._hand_out()

    def messages(self, timeout_s: float = LOOK_S) -> Iterator[Message]:
        """What has happened to the jobs, waiting up to `timeout_s` for the first of it.

        Raises WorkError where a worker cannot be set up.
        """
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            wait([end for worker in self._workers for end in worker.ends], max(0.0, min(LOOK_S, left)))
            for worker in list(self._workers):
                self._hear(worker)
                self._look(worker)
            self._hand_out()
            if self._said or left <= 0:
                break
        while self._said:
            yield self._said.popleft()

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        """Call a job off: it may end by itself at its next yield within `grace_s`, else its worker is replaced."""
        for waiting in [entry for entry in self._waiting if entry[0] == job]:
            self._waiting.remove(waiting)
            self._said.append(Message(job, "error", error="called off before it started", reason="cancelled"))
        for worker in [worker for worker in self._workers if worker.job == job]:
            worker.cancel_at = time.monotonic() + grace_s
            if grace_s > 0:
                worker.send(("cancel", job, None))
            else:
                self._look(worker)

    def pause(self) -> None:
        """Suspend every worker: the machine is the caller's until `resume`."""
        if not self._paused:
            self._paused = True
            for worker in self._workers:
                worker.suspend()
            until = time.monotonic() + STANDSTILL_S
            while not all(worker.stands for worker in self._workers) and time.monotonic() < until:
                time.sleep(0.001)

    def resume(self) -> None:
        """Let every worker go on."""
        if self._paused:
            self._paused = False
            for worker in self._workers:
                worker.wake()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The machine's lease: no worker runs inside of the `with` block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """End every worker, whatever it does."""
        for worker in self._workers:
            worker.end(GRACE_S if not worker.job and worker.ready and not self._paused else 0.0)
        self._workers = []
        self._waiting.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._waiting and worker.ready and not worker.job:
                worker.start(*self._waiting.popleft())

    def _hear(self, worker: _Worker) -> None:
        """Take all that a worker said; if it died, report its job and replace it."""
        while True:
            try:
                if not worker.pipe.poll():
                    break
                verb, job, value, trace = worker.pipe.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                self._replace(worker, "crashed", worker.last_words())
                return
            self._take(worker, verb, job, value, trace)
        if not worker.process.is_alive() and not worker.pipe.poll():
            self._replace(worker, "crashed", worker.last_words())

    def _take(self, worker: _Worker, verb: str, job: str, value: Any, trace: str) -> None:
        if verb == "broken":
            raise WorkError("execute", f"the worker could not be set up: {value}", trace)
        if verb in ("hello", "ready"):
            worker.greeted = True
            worker.ready = verb == "ready"
            return
        seconds = worker.seconds
        if verb == "progress":
            worker.last = value
            self._said.append(Message(job, "progress", value, seconds=seconds))
            return
        last = worker.last
        worker.rest()
        if verb == "result":
            self._said.append(Message(job, "result", last, seconds=seconds))
        elif verb == "cancelled":
            self._said.append(Message(job, "error", error="called off", reason="cancelled", seconds=seconds))
        else:
            self._said.append(Message(job, "error", error=str(value), reason="raised", trace=trace, seconds=seconds))

    def _look(self, worker: _Worker) -> None:
        """Replace a worker whose job was called off, takes too long or has grown too large."""
        if not worker.job:
            return
        if worker.cancel_at is not None and time.monotonic() >= worker.cancel_at:
            self._replace(worker, "cancelled", "called off")
        elif self._time_limit_s is not None and worker.seconds > self._time_limit_s:
            self._replace(worker, "time", f"took longer than {self._time_limit_s:g} s and was ended")
        elif self._memory_limit_mb is not None and (used := worker.memory_mb()) > self._memory_limit_mb:
            said = f"grew to {used:.0f} MB, over the limit of {self._memory_limit_mb:.0f} MB, and was ended"
            self._replace(worker, "memory", said)

    def _replace(self, worker: _Worker, reason: Reason, error: str) -> None:
        job, seconds, was_ready = worker.job, worker.seconds, worker.ready
        place = self._workers.index(worker)
        del self._workers[place]
        worker.end()
        if not was_ready:
            raise WorkError("execute", f"a worker ended before it was set up: {error}", "")
        self._workers.insert(place, _Worker(self._context, self._first))
        if self._paused:
            self._workers[place].suspend()
        if job:
            self._said.append(Message(job, "error", error=error, reason=reason, seconds=seconds))


def _first_word(setup: Setup, arguments: Any) -> tuple[Any, bytes]:
    """What a worker is told first: how to import the user's script where the work is defined in it, and the work."""
    try:
        pickled = pickle.dumps((setup, arguments), protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        hint = "Define the class at the top of a module: trials run in processes of their own."
        raise WorkError("execute", f"the work cannot be handed to another process: {error}", hint) from None
    if b"__main__" not in pickled:
        return None, pickled
    from multiprocessing import spawn

    data = spawn.get_preparation_data("worker")
    return {key: value for key, value in data.items() if key != "authkey"}, pickled


class _Worker:
    """One process, its pipe, and the job it runs."""

    def __init__(self, start: Any, first: tuple[Any, bytes]) -> None:
        self.pipe: Connection
        self.pipe, other = start.Pipe()
        self.process = start.Process(target=work, args=(other,), daemon=True)
        try:
            with without_main():
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            other.close()
        self.pid: int = self.process.pid
        self._seen = psutil.Process(self.pid)
        self._children: list[psutil.Process] = []
        self._memory_mb = self._weighed_at = self._counted_at = 0.0
        self.greeted = self.ready = False
        self.rest()
        self.send(first)

    @property
    def ends(self) -> tuple[Any, Any]:
        """What becomes readable when the worker says something or dies."""
        return self.pipe, self.process.sentinel

    @property
    def seconds(self) -> float:
        """How long the present job has run, pauses left out."""
        if not self.job:
            return 0.0
        now = time.monotonic() if self._suspended_at is None else self._suspended_at
        return now - self._since

    def memory_mb(self) -> float:
        """Resident memory of the process and its children, at most `LOOK_S` old."""
        now = time.monotonic()
        if now - self._weighed_at < LOOK_S:
            return self._memory_mb
        with contextlib.suppress(psutil.Error):
            # To find children is slow: every process of the machine is looked at.
            if now - self._counted_at >= CHILDREN_S:
                self._counted_at = now
                self._children = self._seen.children(recursive=True)
            total = self._seen.memory_info().rss
            for child in self._children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += child.memory_info().rss
            self._memory_mb = total / 1e6
        self._weighed_at = now
        return self._memory_mb

    def start(self, job: str, payload: Any) -> None:
        self.job = job
        self._since = time.monotonic()
        self.send(("run", job, payload))

    def rest(self) -> None:
        """Be without a job."""
        self.job = ""
        self.last: Any = None
        self.cancel_at: float | None = None
        self._since = 0.0
        self._suspended_at: float | None = None

    def send(self, words: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died; `_hear` will find out
            self.pipe.send(words)

    def suspend(self) -> None:
        # Not before it has seen to it that it dies with us: suspended, it could not.
        if not self.greeted and self.pipe.poll(GREETING_S):
            with contextlib.suppress(EOFError, OSError):  # it died; `_hear` will find out
                self.pipe.recv()
                self.greeted = True
        self._suspended_at = time.monotonic()
        with contextlib.suppress(psutil.Error):
            self._seen.suspend()

    @property
    def stands(self) -> bool:
        """Whether the process has come to a stop: a signal takes a moment to arrive."""
        with contextlib.suppress(psutil.Error):
            return self._seen.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return True

    def wake(self) -> None:
        if self._suspended_at is not None:
            self._since += time.monotonic() - self._suspended_at
            self._suspended_at = None
        with contextlib.suppress(psutil.Error):
            self._seen.resume()

    def last_words(self) -> str:
        """How a dead process died."""
        self.process.join(GRACE_S)
        code = self.process.exitcode
        if code is None:
            return "the worker closed its pipe"
        if code >= 0:
            return f"the worker ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"the worker was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"

    def end(self, grace_s: float = 0.0) -> None:
        """End the process and what it started; an idle one may end by itself within `grace_s`."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = self._seen.children(recursive=True)
        self.pipe.close()
        if grace_s:
            self.process.join(grace_s)
        if self.process.exitcode is None:
            self.process.kill()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        self.process.join()
        self.process.close()
