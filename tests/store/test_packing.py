"""The stored form: the same bytes come back, few of them are stored, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from modelmill.errors import StorageError
from modelmill.store.blobs import digest_of
from modelmill.store.packing import ans, pieces
from modelmill.store.packing.flow import Source, Tail, number
from modelmill.store.packing.packed import MAGIC, pack, unpack
from modelmill.store.packing.tensors import numbers

GOLDEN = bytes.fromhex(
    "4d494c4c01eb0b9f017a63d66be05010606282baca9e89a19e919727408091817f0d13072323233b433d3302d670f0593de2"
    "06c55c851063a51287674a2a30c19754c2fcdbcbc121c02100f40653b9815703875614878600179063e815a0b58389630d93"
    "00339067e4b586298a1f6406171707d05d2c40f7302601052a91059c980464009afb0f00e2cfb817c1143e15da2cdcdc1623"
    "97bb2ebbc5ba5cbaf3b98ab921b9b8b84fb8cbb7f9b627b655b583b462b3beb11ab0ecac90a69026ec2c1a30be3162338334"
    "55352736f936cb374f38b83821398a39f3395c3ac53a2e3b973b003cd2856e04c56cfce03bd7f74666fb6caeef9f70d4a38b"
    "b1790f2eb565255ef28ce340c13d2329275f0297ac0faf7bef2dd1ec4c192c50b7800bf3c56cfce03bd7f74666fb6caeee9f"
    "5b54154a9e37fc2e49e7d793af8f950406bcdf6727a4a4985a08e27760b197e27ad793c9"
)
"""A matrix of zeros and one value, halves between -1 and 1, and bytes that repeat, as version 1 packed them."""


def model(*tensors):
    """An ONNX file that holds these tensors."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        list(tensors),
    )
    return helper.make_model(graph).SerializeToString(deterministic=True)


def file(*arrays):
    return model(*(numpy_helper.from_array(array, f"w{place}") for place, array in enumerate(arrays)))


def sparse(rows, columns, share, seed=0):
    """A matrix with that share of numbers, most of them in some rows and columns, and those few values."""
    rng = np.random.default_rng(seed)
    full = rng.random((rows, 1)) ** 3 * rng.random((1, columns)) ** 3
    taken = rng.random((rows, columns)) < full * share / full.mean()
    return np.where(taken, rng.choice(np.array([-0.5, -0.25, 0.25, 0.5], np.float32), taken.shape), np.float32(0))


def entropy(share):
    return -(share * np.log2(share) + (1 - share) * np.log2(1 - share))


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_come_back(data):
    assert unpack(pack(data)) == data


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["f4", "f8", "f2", "i1", "u1", "i8", "i4", "u2"]),
    shape=st.lists(st.integers(1, 30), min_size=0, max_size=4),
    values=st.integers(1, 400),
    zeros=st.sampled_from([0.0, 0.4, 0.97, 1.0]),
    seed=st.integers(0, 99),
)
def test_any_tensor_comes_back(kind, shape, values, zeros, seed):
    rng = np.random.default_rng(seed)
    book = rng.integers(0, 256, (values, np.dtype(kind).itemsize), np.uint8).view(kind).ravel()
    array = np.where(rng.random(shape) < zeros, np.zeros(1, kind), rng.choice(book, shape))
    data = file(np.asarray(array, kind))
    assert unpack(pack(data)) == data


@pytest.mark.parametrize("count", [1, 2, 301, 4097])
def test_four_bit_numbers_come_back_whatever_fills_the_last_byte(count):
    rng = np.random.default_rng(count)
    raw = rng.integers(0, 256, (count + 1) // 2, np.uint8).tobytes()
    data = model(TensorProto(name="w", data_type=TensorProto.UINT4, dims=[count], raw_data=raw))
    assert unpack(pack(data)) == data


def test_a_tensor_of_several_pieces_comes_back(monkeypatch):
    monkeypatch.setattr(pieces, "LARGEST", 1000)
    data = file(sparse(61, 53, 0.1), np.arange(5000, dtype=np.int16))
    assert unpack(pack(data)) == data


def test_numbers_are_found_in_initializers_attributes_and_graphs_within():
    weight = numpy_helper.from_array(np.ones((4, 50), np.float16), "w")
    inner = helper.make_graph([], "inner", [], [], [weight])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(40), "v")),
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(nodes, "model", [], [], [numpy_helper.from_array(np.ones((3, 99), np.int8), "i")])
    runs = numbers(helper.make_model(graph).SerializeToString())
    found = [(run.end - run.start, run.bits, run.width) for run in runs]
    assert found == [(320, 64, 1), (400, 16, 50), (400, 16, 50), (297, 8, 99)]


def test_few_values_take_what_their_entropy_says():
    rng = np.random.default_rng(0)
    codes = rng.choice(4, (200, 300), p=[0.5, 0.25, 0.125, 0.125])
    data = file(np.array([0.1, 0.2, 0.3, 0.4], np.float32)[codes])
    assert len(pack(data)) < 60_000 * 1.75 / 8 * 1.02 + 200


def test_zeros_take_less_than_their_share_says_where_some_rows_and_columns_are_fuller():
    matrix = sparse(300, 784, 0.05)
    share = (matrix != 0).mean()
    plain = matrix.size * entropy(share) / 8 + matrix.size * share * 2 / 8
    assert len(pack(file(matrix))) < 0.9 * plain


def test_a_pruned_layer_with_floats_keeps_its_floats():
    rng = np.random.default_rng(1)
    matrix = np.where(sparse(200, 300, 0.1) != 0, rng.normal(size=(200, 300)), 0).astype(np.float32)
    kept = int((matrix != 0).sum())
    assert len(pack(file(matrix))) < 4 * kept + 60_000 * entropy(0.1) / 8 + 600


def test_packing_beats_zlib_on_pruned_layers_and_on_four_bit_codes():
    rng = np.random.default_rng(2)
    codes = np.clip(rng.normal(8, 2, 40_000), 0, 15).astype(np.uint8)
    raw = (codes[0::2] | codes[1::2] << 4).tobytes()
    four = TensorProto(name="w", data_type=TensorProto.UINT4, dims=[200, 200], raw_data=raw)
    for tensor, share in ((four, 0.99), (numpy_helper.from_array(sparse(256, 256, 0.1), "w"), 0.9)):
        data = model(tensor)
        assert len(pack(data)) < share * len(zlib.compress(data, 9))


def test_random_floats_grow_by_next_to_nothing():
    data = np.random.default_rng(3).integers(0, 256, 40_000, np.uint8).tobytes()
    assert len(pack(file(np.frombuffer(data, np.float32)))) < len(data) + 300


def test_the_same_bytes_are_packed_the_same():
    data = file(sparse(40, 50, 0.2))
    assert pack(data) == pack(bytes(bytearray(data)))


def test_the_format_is_still_read():
    assert digest_of(unpack(GOLDEN)) == "sha256:9e3e84dcedc5d283b044ca88876be4e1955b5fcc250b7ad3bec6106472aaeae0"


def test_a_symbol_takes_the_bits_that_its_table_says():
    rng = np.random.default_rng(4)
    symbols = rng.choice(3, 50_000, p=[0.9, 0.08, 0.02]).astype(np.uint8)
    table = ans.table(np.array([[9000, 800, 200]]))
    tail = Tail()
    tail.put(bytes(200))
    ans.encode(symbols, table, tail)
    packed = b"".join(tail.parts())
    bits = -np.log2(table.frequencies[0] / ans.TOTAL)[symbols].sum()
    assert len(packed) - 200 == pytest.approx(bits / 8, rel=0.015)
    source = Source(packed)
    assert (ans.decode(len(symbols), table, source) == symbols).all()
    assert not bytes(source.take(200)).strip(b"\0")


def test_every_cut_is_refused():
    for length in range(len(PACKED)):
        with pytest.raises(StorageError):
            unpack(PACKED[:length])


def test_what_follows_the_end_is_refused():
    with pytest.raises(StorageError, match="too many follow"):
        unpack(pack(b"abc") + b"x")


PACKED = pack(file(sparse(12, 20, 0.2), np.arange(80, dtype=np.float32)))


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1), change=st.integers(1, 255))
def test_a_changed_byte_never_crashes(place, change):
    packed = bytearray(PACKED)
    packed[int(place * (len(packed) - 1))] ^= change
    with contextlib.suppress(StorageError):
        unpack(bytes(packed))


@settings(max_examples=200, deadline=None)
@given(head=st.binary(max_size=80), payload=st.binary(max_size=80), total=st.integers(0, 1 << 40))
def test_hostile_heads_are_refused_or_read_within_bounds(head, payload, total):
    deflating = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = deflating.compress(head) + deflating.flush()
    packed = MAGIC + b"\x01" + b"".join(map(number, (total, len(head), len(deflated)))) + deflated + payload
    with contextlib.suppress(StorageError):
        assert len(unpack(packed, most=10_000)) <= 10_000


def test_a_stated_terabyte_is_refused_before_it_is_made():
    packed = MAGIC + b"\x01" + number(1 << 40) + number(10) + number(10) + bytes(10)
    tracemalloc.start()
    with pytest.raises(StorageError, match=r"it states \d+ where at most"):
        unpack(packed)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_head_that_swells_is_refused():
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = bomb.compress(bytes(10**7)) + bomb.flush()
    with pytest.raises(StorageError, match="another length"):
        unpack(MAGIC + b"\x01" + b"".join(map(number, (100, 10, len(deflated)))) + deflated)


def test_a_newer_format_is_refused_by_its_number():
    with pytest.raises(StorageError, match="version 9, and this modelmill knows version 1"):
        unpack(MAGIC + b"\x09")


def test_memory_stays_within_four_times_the_file():
    rng = np.random.default_rng(5)
    data = file(rng.integers(-8, 8, 3_000_000, np.int8), sparse(500, 1000, 0.1))
    tracemalloc.start()
    packed = pack(data)
    assert unpack(packed) == data
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(data) + 8 * pieces.LARGEST
    assert onnx.load_from_string(data).graph.initializer
