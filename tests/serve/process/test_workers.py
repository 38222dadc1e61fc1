"""Several processes on one port: all answer, a dead one is replaced, all end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import psutil
import pytest
from command import served
from patience import eventually

from modelmill.client import Client
from modelmill.errors import UsageError, WorkError
from modelmill.registry.registry import Registry
from modelmill.serve import plane
from modelmill.serve.ports import listening, reserved
from modelmill.serve.process.crew import Board, Changes, Worker, worker_of
from modelmill.serve.process.pulse import HUNG_S, QUIET_S, Pulse
from modelmill.serve.process.supervisor import crew
from modelmill.serve.server import Service
from modelmill.store.home import Home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes share a port on Linux alone")


def test_a_worker_reads_what_it_is_told():
    worker = Worker(2, 4, 8080, 8081, 7, Path("/run/of: it"))
    assert worker_of(worker.told()) == worker
    assert worker_of("") is None
    with pytest.raises(UsageError, match="MODELMILL_WORKER: '1' is not what a supervisor says"):
        worker_of("1")


def test_what_is_imported_before_workers_are_forked_starts_no_thread():
    """onnxruntime with its telemetry does: a copy of its process would wait for that thread for ever."""
    program = """
import os, sys
from modelmill.serve.process.fork import prepare
from modelmill.verbs.serve import EARLY
prepare(EARLY)
missing = [name for name in EARLY if name not in sys.modules]
print("onnxruntime" in sys.modules, len(os.listdir("/proc/self/task")), missing)
"""
    # onnxruntime tells nothing where CI is set: it is to be quiet elsewhere as well.
    own = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=own).stdout
    assert told == "True 1 []\n"


def test_the_board_is_whole_when_all_are_ready(tmp_path):
    board, other = Board(tmp_path, 2), Board(tmp_path, 2)
    assert not board.is_whole
    board.mark(0, ready=True)
    other.mark(1, ready=True)
    assert board.is_whole
    assert other.is_whole
    board.mark(1, ready=False)
    assert not other.is_whole


def test_a_worker_that_does_not_beat_is_not_ready_and_then_given_up(tmp_path):
    board = Board(tmp_path, 2)
    pulse = Pulse(board, 0.0)
    hanging = []
    for second in range(1, 40):
        board.beat(0)
        if second == 1:
            board.beat(1)
        if pulse.look([0, 1], float(second)):
            hanging.append(second)
        assert board.beats(0)
        assert bool(board.beats(1)) == (second <= 1 + QUIET_S)
    assert hanging[0] == 2 + HUNG_S
    assert pulse.look([0, 1], 40.0) == [1]
    pulse.forget(1)
    board.beat(1)
    assert pulse.look([0, 1], 41.0) == []
    assert board.is_whole


def test_who_looks_late_blames_nobody_and_who_drains_is_let(tmp_path):
    board = Board(tmp_path, 1)
    pulse = Pulse(board, 0.0)
    board.beat(0)
    assert pulse.look([0], 1.0) == []
    assert pulse.look([0], 1000.0) == []
    assert board.is_whole
    board.mark(0, ready=False)
    assert [pulse.look([0], 1000.0 + second) for second in range(60)] == [[]] * 60


def test_a_reserved_port_is_for_workers_and_not_had_where_another_has_it():
    with reserved("127.0.0.1", 0, "--port") as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        with listening("127.0.0.1", port, shared=True) as worker:
            worker.listen()
            socket.create_connection(("127.0.0.1", port)).close()
    with (
        listening("127.0.0.1", 0) as taken,
        pytest.raises(WorkError, match="taken"),
        reserved("127.0.0.1", taken.getsockname()[1], "--port"),
    ):
        pass


@pytest.fixture
def home(tmp_path, publish_flowers):
    place = Home(tmp_path)
    publish_flowers(Registry(place.database, place.blobs))
    place.database.close()
    return tmp_path


def workers(process):
    return [child for child in psutil.Process(process.pid).children() if lives(child)]


def lives(child):
    try:
        return child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it was collected since its parent was asked
        return False


def label(url):
    with Client(url) as client:
        return client.predict("flowers", [[3, 1]])["label"][0]


def answers(url):
    try:
        return label(url) == "long"
    except WorkError:
        return False


def is_ready(url):
    with Client(url) as client:
        return client.ready()


def test_workers_share_a_port_and_a_dead_one_is_replaced(home):
    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (process, url):
        assert is_ready(url)
        before = {child.pid for child in workers(process)}
        assert len(before) == 2
        ports = {
            c.laddr.port for child in workers(process) for c in child.net_connections("tcp") if c.status == "LISTEN"
        }
        assert ports == {int(url.rpartition(":")[2])}
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: victim not in {child.pid for child in workers(process)})
        assert eventually(lambda: answers(url))  # what had come to the dead one is reset; the other goes on
        assert eventually(lambda: len(workers(process)) == 2 and Board(next((home / "run").iterdir()), 2).is_whole)
        assert is_ready(url)
        assert {child.pid for child in workers(process)} & before == before - {victim}
        after = workers(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not psutil.wait_procs(after, timeout=10)[1]
    assert not list((home / "run").iterdir())


def test_the_service_is_not_ready_while_a_worker_is_missing(home):
    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (_, url):
        board = Board(next((home / "run").iterdir()), 2)
        board.mark(1, ready=False)
        assert not is_ready(url)
        assert label(url) == "long"
        board.mark(1, ready=True)
        assert is_ready(url)


def test_a_worker_that_is_stopped_is_not_ready_until_it_goes_on(home):
    with served(home, "--workers", "2") as (process, url):
        (stopped, *_) = workers(process)
        (board,) = (home / "run").glob("serve-*/ready")
        stopped.suspend()
        try:
            assert eventually(lambda: b"\0" in board.read_bytes())
        finally:
            stopped.resume()
        assert eventually(lambda: is_ready(url))
        assert stopped in workers(process)


def test_workers_end_when_their_supervisor_is_killed(home):
    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (process, _):
        left = workers(process)
        process.kill()
        assert not psutil.wait_procs(left, timeout=60)[1]


def test_folders_of_services_that_were_killed_are_removed_at_the_next_start(tmp_path):
    program = """
import sys
from pathlib import Path
from modelmill.serve.process.supervisor import crew
with crew(Path(sys.argv[1]), 2, 1, 2) as workers:
    print(workers[0].folder.name, flush=True)
    sys.stdin.read()
"""

    def started():
        command = [sys.executable, "-c", program, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline().strip()

    (killed, gone), (living, kept) = started(), started()
    try:
        assert {path.name for path in tmp_path.iterdir()} == {gone, kept}
        killed.kill()
        killed.communicate()
        with crew(tmp_path, 1, 1, 2) as (worker,):
            assert {path.name for path in tmp_path.iterdir()} == {kept, worker.folder.name}
        living.communicate("")
        assert not list(tmp_path.iterdir())
    finally:
        living.kill()
        living.communicate()


def test_what_keeps_a_worker_from_starting_ends_the_service(home):
    with pytest.raises(AssertionError, match="the service ended"), served(home, "nobody", "--workers", "2"):
        pass


def test_figures_are_those_of_all_workers(home):
    """Counters and histograms, to the last request: alone, each runs one row, and waits, and is written, once."""
    which = 'model="flowers",version="1"'
    histograms = [
        f"modelmill_{name}"
        for name in ("request_duration_seconds", "queue_seconds", "compute_seconds", "encode_seconds")
    ]
    names = {f'modelmill_requests_total{{{which},face="predict",code="200"}}'}
    for name in (*histograms, "modelmill_batch_rows"):
        names |= {f"{name}_count{{{which}}}", f'{name}_bucket{{{which},le="+Inf"}}'}

    def counted(url):
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(found.get(name, 0)) for name in names}

    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (_, url):
        for _ in range(20):
            assert label(url) == "long"
        wanted = dict.fromkeys(names, 20.0)
        # What others have seen is told a moment later; a connection each, so that every worker is asked.
        assert eventually(lambda: [counted(url) for _ in range(6)] == [wanted] * 6), counted(url)


def test_a_change_is_followed_when_every_other_worker_says_so(tmp_path):
    one, two, three = (Changes(tmp_path, 3, index) for index in range(3))
    made = one.make()
    assert (made, two.made, one.behind(made)) == (1, 1, [1, 2])
    two.follow(two.made)
    assert one.behind(made) == [2]
    later = two.make()
    three.follow(three.made)
    assert (one.behind(made), two.behind(later)) == ([], [0])
    assert Changes(tmp_path, 3, 0).make() == 3  # whoever takes the place of a dead one goes on


def test_the_status_is_the_same_whoever_is_asked_also_when_one_was_killed_and_after_a_restart(home):
    def told(url, count):
        """Whether all workers tell of so many requests, and of one start."""
        found = []
        for _ in range(12):  # a connection each, so that every worker is asked
            with urllib.request.urlopen(f"{url}/api/status", timeout=20) as answer:
                said = json.load(answer)
            found.append((time.time() - said["up_seconds"], *(each["requests"] for each in said["windows"].values())))
        began, *windows = zip(*found, strict=True)
        return {*chain(*windows)} == {count} and max(began) - min(began) < 1

    for count in (20, 40):
        with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (process, url):
            for _ in range(20):
                assert label(url) == "long"
            assert eventually(lambda url=url, count=count: told(url, count))
            victim = workers(process)[0].pid
            os.kill(victim, signal.SIGKILL)
            assert eventually(lambda victim=victim, process=process: victim not in {w.pid for w in workers(process)})
            board = Board(next((home / "run").glob("serve-*")), 2)
            assert eventually(lambda board=board, process=process: board.is_whole and len(workers(process)) == 2)
            assert told(url, count)


def test_a_model_that_is_unloaded_is_unloaded_in_all_workers_when_that_is_answered(home):
    def codes(url, path, body=b"[[3, 1]]", count=16):
        found = set()
        for _ in range(count):  # a connection each, so that every worker is asked
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}{path}", body), timeout=20).close()
                found.add(200)
            except urllib.error.HTTPError as error:
                found.add(error.code)
        return found

    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (_, url):
        for verb, code in (("unload", 404), ("load", 200)) * 3:
            assert codes(url, f"/v2/repository/models/flowers/{verb}", b"{}", 1) == {200}
            assert codes(url, "/predict/flowers") == {code}


@pytest.mark.parametrize("other", ["follows late", "is not ready", "hangs"])
def test_an_answer_waits_for_the_other_workers_and_not_for_ever(
    empty_registry, publish_flowers, tmp_path, monkeypatch, other
):
    publish_flowers(empty_registry)
    board, theirs = Board(tmp_path, 2), Changes(tmp_path, 2, 1)
    monkeypatch.setattr(plane, "SPREAD_S", 0.2 if other == "hangs" else 3600.0)
    with Service(empty_registry) as service, ThreadPoolExecutor() as pool:
        state = service.server.state
        state.board, state.changes = board, Changes(tmp_path, 2, 0)
        board.mark(1, ready=other != "is not ready")
        path = f"{service.url}/v2/repository/models/flowers/unload"
        answer = pool.submit(urllib.request.urlopen, urllib.request.Request(path, b"{}"), timeout=30)
        if other == "follows late":
            assert eventually(lambda: theirs.made == 1)
            assert not answer.done()
            theirs.follow(1)
        with answer.result(30) as found:
            assert found.status == 200


def test_gauges_are_of_all_workers_whoever_is_asked(home):
    def said(url):
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return float(found["modelmill_ready"]), float(found["modelmill_models_served"])

    with served(home, "--workers", "2", "--no-grpc", "--lead", "0") as (_, url):
        assert eventually(lambda: {said(url) for _ in range(8)} == {(2.0, 1.0)})
