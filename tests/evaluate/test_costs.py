"""What the costs say agrees with itself, with the file and with the machine's counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmill.errors import ModelError
from modelmill.evaluate.costs import energy
from modelmill.evaluate.costs.cpu import Cpu
from modelmill.evaluate.costs.energy import Energy, counter
from modelmill.evaluate.costs.latency import Latency
from modelmill.evaluate.costs.memory import Memory
from modelmill.evaluate.costs.size import Size
from modelmill.evaluate.costs.stored import Stored
from modelmill.evaluate.costs.throughput import Throughput

QUICK = {"seconds": 0.01, "blocks": 2}


def test_size_is_the_length_of_the_file(rows) -> None:
    assert Size()([b"12345"], rows) == [{"size_bytes": 5, "size_kb": 0.005}]


def test_what_the_store_keeps_of_a_file_is_less_where_it_packs(rows) -> None:
    small, zeros = Stored()([b"12345", bytes(50_000)], rows)
    assert small == {"stored_bytes": 5, "stored_kb": 0.005}
    assert zeros["stored_bytes"] < 200


def test_percentiles_come_of_the_same_calls(dense, rows) -> None:
    (figures,) = Latency(**QUICK, warmups=2)([dense(4)], rows)
    assert 0 < figures["latency_ms"] <= figures["latency_p95_ms"] <= figures["latency_p99_ms"]
    assert "latency_ratio" not in figures, "there is nothing to compare one model with"


def test_models_are_held_against_the_last(dense, rows) -> None:
    first, last = Latency(**QUICK, warmups=2)([dense(4), dense(8)], rows)
    assert (last["latency_ratio"], last["latency_ratio_low"], last["latency_ratio_high"]) == (1, 1, 1)
    assert first["latency_ratio_low"] <= first["latency_ratio"] <= first["latency_ratio_high"]


def test_throughput_is_rows_over_the_time_of_a_batch(dense, rows) -> None:
    (figures,) = Throughput(**QUICK, rows=16)([dense(4)], rows)
    assert figures["throughput_rps"] * figures["latency_b32_ms"] == pytest.approx(16_000)


def test_processor_time_is_there(dense, rows) -> None:
    assert Cpu(**QUICK)([dense(4)], rows)[0]["cpu_seconds"] > 0


def test_modelled_energy_is_power_times_processor_time(dense, rows, monkeypatch) -> None:
    monkeypatch.setattr(energy, "counter", lambda: None)
    weak, strong = (Energy(seconds=0.01, watts=watts)([dense(4)], rows)[0]["energy_mj"] for watts in (1e-3, 1000.0))
    assert strong > 1000 * weak > 0, "a million times the power is never less than a thousand times the energy"


def test_a_counter_counts_only_where_it_may_be_read(tmp_path: Path) -> None:
    assert counter(tmp_path) is None
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    (folder / "energy_uj").write_text("5000000\n")
    assert counter(tmp_path) == folder


def test_a_full_counter_starts_again(tmp_path: Path) -> None:
    (tmp_path / "energy_uj").write_text("1000000")
    (tmp_path / "max_energy_range_uj").write_text("10000000")
    assert energy._since(tmp_path, before=9.0) == pytest.approx(2.0)


def test_a_large_model_takes_more_memory_than_a_small_one(dense, rows) -> None:
    small, large = Memory()([dense(4), dense(2_000_000)], rows)
    assert large["memory_mb"] > small["memory_mb"] + 40, "its weights alone are 48 MB"


def test_a_child_that_dies_is_an_error_with_its_words(dense, rows, monkeypatch) -> None:
    monkeypatch.setattr("modelmill.evaluate.costs.memory.pack", lambda model, calls: b"no parcel")
    with pytest.raises(ModelError, match="the child that loads the model ended with code 1"):
        Memory()([dense(4)], rows)
