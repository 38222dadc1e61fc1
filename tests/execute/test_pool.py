"""A pool outlives any of its workers, and says what became of every job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import execute_jobs as jobs
import psutil
import pytest

from modelmill.errors import WorkError
from modelmill.execute.local import Pool
from modelmill.execute.message import Message

WAIT_S = 30


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1, jobs.setup, 10) as pool:
        yield pool


def everything(pool: Pool) -> list[Message]:
    """All messages until no job is left."""
    said: list[Message] = []
    until = time.monotonic() + WAIT_S
    while pool.running:
        assert time.monotonic() < until, f"{pool.running} did not end"
        said.extend(pool.messages(0.5))
    return said


def ends(said: list[Message]) -> dict[str, Message]:
    return {message.job: message for message in said if message.kind != "progress"}


def test_progress_is_streamed_and_the_last_value_is_the_result(pool: Pool) -> None:
    pool.submit("a", 4)
    said = everything(pool)
    assert [(message.kind, message.value) for message in said] == [
        ("progress", {"step": 1}),
        ("progress", 40),
        ("result", 40),
    ]
    assert {message.job for message in said} == {"a"}


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        ("crash", "crashed", "exit code 3"),
        ("segfault", "crashed", "SIGSEGV"),
        ("fail", "raised", "ValueError: this cannot be done"),
    ],
)
def test_a_job_that_dies_is_reported_and_the_next_one_runs(pool: Pool, payload: str, reason: str, words: str) -> None:
    pool.submit("bad", payload)
    pool.submit("good", 2)
    ended = ends(everything(pool))
    assert (ended["bad"].kind, ended["bad"].reason) == ("error", reason)
    assert words in ended["bad"].error
    assert ended["good"].value == 20


def test_a_hung_job_is_ended_by_its_time_limit() -> None:
    with Pool(1, jobs.setup, time_limit_s=0.5) as pool:
        pool.submit("bad", "hang")
        pool.submit("good", 2)
        ended = ends(everything(pool))
    assert ended["bad"].reason == "time"
    assert "longer than 0.5 s" in ended["bad"].error
    assert ended["good"].value == 2


def test_a_greedy_job_is_ended_by_its_memory_limit() -> None:
    with Pool(1, jobs.setup, memory_limit_mb=400) as pool:
        pool.submit("bad", "hog")
        pool.submit("good", 2)
        ended = ends(everything(pool))
    assert ended["bad"].reason == "memory"
    assert "over the limit of 400 MB" in ended["bad"].error
    assert ended["good"].value == 2


def test_a_job_called_off_ends_at_its_next_yield_and_its_worker_lives(pool: Pool) -> None:
    pool.submit("a", "steps")
    while not list(pool.messages(1)):
        pass
    before = pool.pids
    pool.cancel("a", grace_s=WAIT_S)
    assert ends(everything(pool))["a"].reason == "cancelled"
    assert pool.pids == before


def test_a_job_that_does_not_end_by_itself_is_called_off_at_once(pool: Pool) -> None:
    pool.submit("a", "hang")
    while not list(pool.messages(1)):
        pass
    before = pool.pids
    pool.submit("waiting", 1)
    pool.cancel("a")
    pool.cancel("waiting")
    ended = ends(everything(pool) + list(pool.messages(0)))
    assert ended["a"].reason == ended["waiting"].reason == "cancelled"
    assert pool.pids != before
    assert not psutil.pid_exists(before[0])


def test_a_paused_pool_stands_still_and_its_clock_too() -> None:
    with Pool(1, jobs.setup, time_limit_s=1.0) as pool:
        pool.submit("a", "steps")
        while not list(pool.messages(1)):
            pass
        with pool.paused():
            states = [psutil.Process(pid).status() for pid in pool.pids]
            time.sleep(1.2)
        assert states == [psutil.STATUS_STOPPED]
        assert all(message.kind == "progress" for message in pool.messages(0.1))
        assert ends(everything(pool))["a"].reason == "time"


def test_workers_compute_on_one_thread(pool: Pool) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    pool.submit("a", "threads")
    assert ends(everything(pool))["a"].value == {"torch": 1, "omp": "1"}
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize(("arguments", "words"), [("broken", "the arguments are broken"), ("dead", "exit code 4")])
def test_work_that_cannot_be_set_up_is_refused_once(arguments: str, words: str) -> None:
    with Pool(1, jobs.setup, arguments) as pool:
        pool.submit("a", 1)
        with pytest.raises(WorkError, match=words):
            everything(pool)


def test_interrupting_a_worker_does_not_disturb_its_job(pool: Pool) -> None:
    pool.submit("a", "steps")
    while not list(pool.messages(1)):
        pass
    os.kill(pool.pids[0], signal.SIGINT)
    pool.cancel("a", grace_s=WAIT_S)
    assert ends(everything(pool))["a"].reason == "cancelled"


def test_closing_leaves_no_process() -> None:
    pool = Pool(2, jobs.setup)
    pool.submit("a", "hang")
    list(pool.messages(1))
    pids = pool.pids
    pool.close()
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


MILL = """
import sys, time
sys.path.insert(0, {folder!r})
import execute_jobs as jobs
from modelmill.execute.local import Pool

pool = Pool(2, jobs.setup)
pool.submit("a", "hang")
while not list(pool.messages(1)):
    pass
{then}
print(*pool.pids, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("then", ["", "pool.pause()"])
def test_a_killed_mill_leaves_no_worker_behind(then: str) -> None:
    script = MILL.format(folder=str(Path(__file__).parent), then=then)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as mill:
        assert mill.stdout is not None
        pids = [int(pid) for pid in mill.stdout.readline().split()]
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
        mill.kill()
    until = time.monotonic() + WAIT_S
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < until, "a worker outlived the mill"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


SCRIPT = """
from modelmill.execute.local import Pool

print("script")

def setup(arguments):
    return lambda payload: iter([payload + arguments])

def main():
    with Pool(1, setup, 1) as pool:
        pool.submit("a", 1)
        while pool.running:
            for message in pool.messages(1):
                if message.kind == "result":
                    print(message.value)

if __name__ == "__main__":
    main()
"""


def test_work_that_is_defined_in_the_users_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert ran.stdout.split().count("2") == 1


def test_a_script_without_a_guard_is_not_run_again_in_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import execute_jobs as jobs\nfrom modelmill.execute.local import Pool\nprint('once', flush=True)\n"
        "pool = Pool(1, jobs.setup)\npool.submit('a', 5)\n"
        "while pool.running:\n    [print(m.value) for m in pool.messages(1) if m.kind == 'result']\npool.close()\n"
    )
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert ran.stdout.split() == ["once", "5"]
