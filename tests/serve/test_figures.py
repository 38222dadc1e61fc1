"""Figures: exact over processes, kept when one of them dies, with Triton's names beside ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from modelmill.errors import StorageError
from modelmill.serve.signals.figures import FOLD_S, Figures
from modelmill.serve.signals.machine import Machine
from modelmill.serve.signals.slots import Slots, merged, read
from modelmill.serve.signals.statistics import by_version, statistics

COUNTS = """
import sys
from pathlib import Path
from modelmill.serve.signals.figures import Figures
figures = Figures(Path(sys.argv[1]), int(sys.argv[2]))
for number in range(1000):
    figures.of("flowers", "1").answered("v2", 200 if number % 10 else 500, 0.002)
    figures.of("flowers", "1").ran(3, 0, 1000, 0)
figures.fold()
"""


def samples(text):
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_processes_that_count_at_once_lose_nothing(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", COUNTS, str(tmp_path), str(n)]) for n in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    found = samples(Figures(tmp_path, 9).text({}))
    which = 'model="flowers",version="1"'
    assert found[f'modelmill_requests_total{{{which},face="v2",code="200"}}'] == 2700
    assert found[f'modelmill_requests_total{{{which},face="v2",code="500"}}'] == 300
    assert found[f"modelmill_request_duration_seconds_count{{{which}}}"] == 3000
    assert found[f'modelmill_request_duration_seconds_bucket{{{which},le="0.001"}}'] == 0
    assert found[f'modelmill_request_duration_seconds_bucket{{{which},le="0.0025"}}'] == 3000
    assert found[f"nv_inference_request_success{{{which}}}"] == 2700
    assert found[f'nv_inference_request_failure{{{which},reason="BACKEND"}}'] == 300
    assert found[f"nv_inference_pending_request_count{{{which}}}"] == 0
    assert found[f"nv_inference_count{{{which}}}"] == 9000
    assert found[f"nv_inference_exec_count{{{which}}}"] == 3000
    assert found[f"nv_inference_request_duration_us{{{which}}}"] == pytest.approx(6_000_000)
    told = statistics(by_version(Figures(tmp_path, 9).series())["flowers", "1"])
    assert told["inference_stats"]["success"] == {"count": 2700, "ns": pytest.approx(5.4e9)}
    assert told["inference_stats"]["fail"] == {"count": 300, "ns": pytest.approx(0.6e9)}
    nothing = {"count": 3000, "ns": 0}
    (size,) = told["batch_stats"]
    assert (size["batch_size"], size["compute_input"]) == (3, nothing)
    assert size["compute_infer"] == {"count": 3000, "ns": 3_000_000}
    assert abs(told["last_inference"] / 1000 - time.time()) < 60


def test_inferences_are_rows_that_were_answered_and_every_phase_counts_all_runs():
    """A run on the loop, one for two requests, and one for a request whose client had left."""
    figures = Figures()
    served = figures.of("flowers", "1")
    served.ran(2, 0, 1000, 0)
    served.ran(4, 10, 1000, 10)
    served.waited(1000, 3)
    served.waited(1000, 1)
    served.ran(16, 10, 1000, 10)
    told = statistics(by_version(figures.series())["flowers", "1"])
    assert (told["inference_count"], told["execution_count"]) == (6, 3)
    for phase in ("compute_input", "compute_infer"):
        assert told["inference_stats"][phase]["count"] == sum(each[phase]["count"] for each in told["batch_stats"]) == 3
    assert samples(figures.text({}))['nv_inference_count{model="flowers",version="1"}'] == 6


def test_every_phase_is_told_under_its_own_name():
    figures = Figures()
    served = figures.of("flowers", "1")
    served.ran(2, 3000, 5000, 9000)
    served.waited(17_000, 2)
    served.encoded(33e-6)
    served.answered("v2", 200, 65e-6)
    told = statistics(by_version(figures.series())["flowers", "1"])
    ns = {"success": 65_000, "queue": 17_000, "compute_input": 12_000, "compute_infer": 5000, "compute_output": 33_000}
    assert {name: told["inference_stats"][name] for name in ns} == {n: {"count": 1, "ns": ns[n]} for n in ns}
    (size,) = told["batch_stats"]
    runs = {"compute_input": 3000, "compute_infer": 5000, "compute_output": 9000}
    assert size == {"batch_size": 2, **{name: {"count": 1, "ns": runs[name]} for name in runs}}
    found = samples(figures.text({}))
    assert found['nv_inference_request_duration_us{model="flowers",version="1"}'] == 65
    for name in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert found[f'nv_inference_{name}_duration_us{{model="flowers",version="1"}}'] == ns[name] / 1000
    for name, value in {"queue": 17, "batch": 12, "compute": 5, "encode": 33}.items():
        assert found[f'modelmill_{name}_seconds_sum{{model="flowers",version="1"}}'] == pytest.approx(value / 1e6)


def test_a_version_that_nobody_asked_has_tritons_counters_and_no_histograms(tmp_path):
    """Whichever process was asked: one that was not tells of it all the same."""
    one, other = Figures(tmp_path, 0), Figures(tmp_path, 1)
    for figures in (one, other):
        for model in ("asked", "idle"):
            figures.of(model, "1")
    told = [name for name in samples(one.text({})) if 'model="' in name]
    assert len(told) == 16
    assert all(name.startswith("nv_inference_") for name in told)
    other.of("asked", "1").ran_one(1000)
    other.of("asked", "1").answered("v2", 200, 0.002)
    for figures in (other, one):
        found = samples(figures.text({}))
        assert found['nv_inference_count{model="idle",version="1"}'] == 0
        assert found['nv_inference_count{model="asked",version="1"}'] == 1
        assert {name for name in found if name.startswith("modelmill_") and "_count{" in name} == {
            f'modelmill_{what}_count{{model="asked",version="1"}}'
            for what in ("request_duration_seconds", "batch_rows", "queue_seconds", "compute_seconds")
        }


def test_a_process_that_takes_the_place_of_a_dead_one_goes_on_counting(tmp_path):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNTS, str(tmp_path), "0"], check=True, timeout=60)
    found = samples(Figures(tmp_path, 1).text({}))
    assert found['nv_inference_request_success{model="flowers",version="1"}'] == 1800


def test_a_file_is_read_while_it_is_written(tmp_path):
    path = tmp_path / "0.figures"
    slots = Slots(path)
    for number in range(200):
        slots.claim(f"größe {number}", number % 5 + 1)[0] = number
        assert read(path) == slots.values()
    assert read(path)["größe 7"] == [7.0, 0.0, 0.0]
    assert read(tmp_path / "none") == {}


def test_a_full_file_is_said(tmp_path):
    slots = Slots(tmp_path / "0", size_bytes=4096)
    for number in range(30):
        slots.claim(str(number), 10)
    with pytest.raises(StorageError, match="30 series fill the file"):
        slots.claim("large", 1000)
    assert len(read(tmp_path / "0")) == 30


def test_sums_do_not_depend_on_the_order():
    parts = [{"a": [1.0, 2.0]}, {"b": [5.0]}, {"a": [10.0, 0.5]}]
    assert merged(parts) == merged(parts[::-1]) == {"a": [11.0, 2.5], "b": [5.0]}


def test_requests_for_no_model_are_counted_and_not_timed():
    figures = Figures()
    figures.of("", "").answered("v2", 404, 0.1)
    found = samples(figures.text({}))
    assert found['modelmill_requests_total{model="",version="",face="v2",code="404"}'] == 1
    assert not any("duration" in name for name in found)


def test_what_is_noted_on_a_loop_is_added_up_soon_and_nothing_is_lost_while_it_is(tmp_path):
    """Notes come on the loop while other threads read, and a moment later another process sees them all."""
    own, other = Figures(tmp_path, 0), Figures(tmp_path, 1)
    which = 'model="flowers",version="1"'
    total, reads = 20_000, []

    async def note():
        served = own.of("flowers", "1")
        reading = asyncio.gather(*(asyncio.to_thread(look) for _ in range(3)))
        for number in range(total):
            served.ran(1 + number % 3, number % 2, 1000, number % 2)
            if number % 2:
                served.waited(1000, 1 + number % 3)
            served.encoded(0.001)
            served.answered("v2", 200, 0.002)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await reading
        end = time.monotonic() + 10
        while seen(other) < total and time.monotonic() < end:
            await asyncio.sleep(FOLD_S)

    def seen(figures):
        name = f'modelmill_requests_total{{{which},face="v2",code="200"}}'
        return samples(figures.text({})).get(name, 0)

    def look():
        for _ in range(20):
            reads.append(seen(own))

    asyncio.run(note())
    assert all(0 <= count <= total for count in reads)
    for figures in (other, own):
        found = samples(figures.text({}))
        assert seen(figures) == total
        for what in ("request_duration", "queue", "encode", "compute"):
            assert found[f"modelmill_{what}_seconds_count{{{which}}}"] == total
        assert found[f"modelmill_batch_seconds_count{{{which}}}"] == total / 2
        assert found[f"modelmill_compute_seconds_sum{{{which}}}"] == pytest.approx(total / 1e6)
        assert found[f'modelmill_batch_rows_bucket{{{which},le="1"}}'] == 6667
        assert found[f'modelmill_batch_rows_bucket{{{which},le="2"}}'] == 6667 * 2
        assert found[f"nv_inference_count{{{which}}}"] == 6667 * 1 + 6667 * 2 + 6666 * 3


def test_failures_are_told_by_tritons_reasons_and_none_is_told_twice():
    figures = Figures()
    for code in (200, 400, 404, 429, 429, 499, 500, 503, 504):
        figures.of("a", "1").answered("v2", code, 0.1)
    found = samples(figures.text({}))
    failures = {name: value for name, value in found.items() if name.startswith("nv_inference_request_failure")}
    which = 'nv_inference_request_failure{model="a",version="1",reason='
    assert failures == {
        f'{which}"REJECTED"}}': 3,
        f'{which}"CANCELED"}}': 1,
        f'{which}"BACKEND"}}': 1,
        f'{which}"OTHER"}}': 3,
    }


def test_who_waits_is_told_by_version_and_not_of_processes_that_are_dead(tmp_path):
    name = 'nv_inference_pending_request_count{model="%s",version="1"}'
    dead, other = Figures(tmp_path, 0), Figures(tmp_path, 1)
    dead.pending({("a", "1"): 3, ("b", "1"): 1})
    other.pending({("a", "1"): 2})
    found = samples(other.text({}))
    assert (found[name % "a"], found[name % "b"]) == (5, 1)
    other.pending({})
    assert samples(other.text({}))[name % "a"] == 3
    Figures(tmp_path, 0)
    assert samples(other.text({}))[name % "a"] == 0


def test_the_machine_is_told_as_linux_has_it(tmp_path):
    def machine(used, idle):
        (tmp_path / "stat").write_text(f"cpu  {used} 0 0 {idle} 0 0 0 0 {used} 0\ncpu0 1 1 1 1\n")
        (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\nHugePages_Total: 0\n")

    machine(100, 100)
    told = Machine(tmp_path)
    machine(130, 110)
    for _ in range(2):  # asked again at once, it is what it was
        found = samples("\n".join(told.lines()))
        assert found["nv_cpu_utilization"] == pytest.approx(0.75)
    assert found["nv_cpu_memory_total_bytes"] == 102400
    assert found["nv_cpu_memory_used_bytes"] == 61440
    assert Machine(tmp_path / "none").lines() == []
