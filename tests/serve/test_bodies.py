"""What may be posted to /predict: CSV, images and sounds become the columns that JSON rows would."""

from __future__ import annotations

import http.client
import io
import json
import struct
import wave
import zlib
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from modelmill.data.read import read_for
from modelmill.errors import RequestError
from modelmill.serve.web import bodies, lists
from modelmill.signature import NO_DATE, Field, Signature

TABLE = Signature(
    "t",
    (
        Field("age", "FP32", nullable=True),
        Field("count", "INT64"),
        Field("city", "BYTES", kind="category"),
        Field("good", "BOOL", kind="boolean"),
        Field("day", "INT64", (-1,), "date", True),
    ),
    (),
)


def read(body, kind, signature=TABLE):
    return bodies.columns(body, kind, signature)


def refused(body, kind, signature=TABLE):
    with pytest.raises(RequestError) as error:
        read(body, kind, signature)
    return str(error.value)


def png(pixels, mode=None, **rest):
    data = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(data, "PNG", **rest)
    return data.getvalue()


def wav(samples, width=2, channels=1, rate=16_000):
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        file.writeframes(samples)
    return data.getvalue()


def test_csv_is_read_by_the_names_in_its_header():
    text = 'city,age,good,count,day\n\'Ulm, old\',1.5,true,7,2026-05-31\n"a""b",,0,8,\n'.replace("'", '"')
    columns = read(b"\xef\xbb\xbf" + text.encode(), "text/csv; charset=utf-8")
    assert columns["city"].tolist() == ["Ulm, old", 'a"b']
    assert columns["age"][0] == 1.5
    assert np.isnan(columns["age"][1])
    assert columns["good"].tolist() == [True, False]
    assert columns["count"].tolist() == [7, 8]
    assert columns["day"].tolist() == [1780185600000, NO_DATE]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_csv_may_be_parted_by_what_parts_files(separator, tmp_path):
    text = '"city, or town"|age|count\n"Ulm|old"|1.5|7\n"a, b, c, d"||8\n'.replace("|", separator)
    kinds = {"city, or town": "BYTES", "age": "FP32", "count": "INT64"}
    signature = Signature("t", tuple(Field(name, kind, nullable=kind != "INT64") for name, kind in kinds.items()), ())
    found = read(text.encode(), "text/csv", signature)
    assert found["city, or town"].tolist() == [f"Ulm{separator}old", "a, b, c, d"]
    (tmp_path / "rows.csv").write_text(text)
    for name, column in read_for(signature, tmp_path / "rows.csv").columns.items():
        np.testing.assert_array_equal(found[name], column)
    line = f"a{separator}b{separator}c\n1{separator}2\n"
    assert "rows[0]: came 2 cells, expected 3" in refused(line.encode(), "text/csv")


def test_csv_may_be_as_a_spreadsheet_saves_it():
    text = 'age;count;city;good;day\r\n1.5;7;"Ulm\r\nold";TRUE;\r\n\r\n;8;b;0;2026-05-31\r\n'
    for mark in (b"", b"\xef\xbb\xbf"):
        columns = read(mark + text.encode(), "text/csv")
        assert columns["city"].tolist() == ["Ulm\r\nold", "b"]
        assert columns["count"].tolist() == [7, 8]
        assert columns["good"].tolist() == [True, False]
    quoted = b'\xef\xbb\xbf"age;in years",b\r\n1,2\r\n'
    two = Signature("t", (Field("age;in years", "FP32"), Field("b", "FP32")), ())
    assert read(quoted, "text/csv", two)["age;in years"].tolist() == [1]


@pytest.mark.parametrize("at", [0, 40, (1 << 16) - 1, 1 << 16, 200_000])
def test_csv_with_a_byte_that_is_no_utf_8_is_refused_wherever_it_stands(at):
    text = b"age,count,city,good,day\n" + b"1,2,abcdefgh,true,\n" * 12_000
    said = refused(text[:at] + b"\xff" + text[at + 1 :], "text/csv")
    assert said == "body: is not UTF-8. Write the table as UTF-8."


def test_csv_with_a_letter_where_the_look_for_its_separator_ends_is_read():
    head = "age;count;city;good;day\n1;2;"
    city = "x" * ((1 << 16) - 1 - len(head)) + "ü"  # its two bytes stand on either side
    assert read(f"{head}{city};true;\n".encode(), "text/csv")["city"].tolist() == [city]


def test_csv_of_a_wide_table_is_read_in_its_order():
    wide = Signature("t", (Field("features", "FP32", (-1, 3), "array"),), ())
    assert read(b"a,b,c\n1,2,3\n4,5,6\n", "text/csv", wide)["features"].tolist() == [[1, 2, 3], [4, 5, 6]]


PLANES = Signature("t", (Field("x", "UINT8", (-1, 2, 1, 2), "image"),), ())
TEXTS = Signature("t", (Field("x", "BYTES", (-1, 2), "category"),), ())


def test_csv_of_one_tensor_has_its_values_in_order_whatever_the_names():
    assert read(b"x,a,b,c\n1,2,3,4\n", "text/csv", PLANES)["x"].tolist() == [[[[1, 2]], [[3, 4]]]]
    assert read(b'a,x\n1,"2,3"\n', "text/csv", TEXTS)["x"].tolist() == [["1", "2,3"]]
    open_size = Signature("t", (Field("x", "FP32", (-1, -1), "sequence"),), ())
    assert read(b"a,b,c\n1,2,3\n", "text/csv", open_size)["x"].shape == (1, 3)


@pytest.mark.parametrize("header", ["a,b,c", "x", "a,b,c,d,e"])
def test_csv_of_one_tensor_with_another_number_of_columns_says_which_was_wanted(header):
    count = header.count(",") + 1
    said = refused(f"{header}\n{','.join('1' * count)}\n".encode(), "text/csv", PLANES)
    assert f"came {count} columns, expected 4, since a row of x has the shape [2, 1, 2]" in said
    assert "Send its values in their order; names are not looked at." in said


@pytest.mark.parametrize("text", ["5.1,3.5,1.4,0.2\n4.9,3,1.4,0.2\n", "0,0,NA,-0\n1,1,1,1\n"])
def test_csv_of_one_tensor_without_a_header_is_refused_and_loses_no_row(text):
    four = Signature("t", (Field("x", "FP32", (-1, 4), "array", True),), ())
    said = refused(text.encode(), "text/csv", four)
    assert f"body: its first line holds numbers alone ({text.partition(chr(10))[0].replace(',', ', ')})" in said
    assert "expected the names of the columns. Put a line of names above the rows" in said
    assert len(read(b"a,b,c,d\n" + text.encode().replace(b"NA", b"0"), "text/csv", four)["x"]) == 2


def test_csv_of_one_tensor_may_have_numbered_columns_and_texts_of_numbers():
    wide = Signature("t", (Field("x", "FP32", (-1, 3), "array"),), ())
    assert read(b"0,1,2\n4,5,6\n", "text/csv", wide)["x"].tolist() == [[4, 5, 6]]
    assert read(b"7,8\n1,2\n", "text/csv", TEXTS)["x"].tolist() == [["1", "2"]]
    one = Signature("t", (Field("1", "FP32", (-1, 1)),), ())
    assert read(b"1\n4\n", "text/csv", one)["1"].tolist() == [[4]]


def test_csv_for_what_a_table_does_not_hold_is_refused():
    frames = Signature("t", (Field("x", "FP32", (-1, 3, -1), "array"),), ())
    assert "a row of x has the shape [3, -1], which a table does not hold" in refused(b"a\n1\n", "text/csv", frames)
    two = Signature("t", (Field("a", "FP32"), Field("x", "FP32", (-1, 3), "array")), ())
    assert "x takes arrays, which a cell does not hold" in refused(b"a,x\n1,2\n", "text/csv", two)


def test_csv_fills_inputs_of_one_element_a_row():
    fields = (Field("a", "FP32", (-1, 1), "array", True), Field("c", "BYTES", (-1, 1), "category"))
    columns = read(b"c,a\nx,1\ny,\n", "text/csv", Signature("t", fields, ()))
    assert columns["c"].tolist() == [["x"], ["y"]]
    assert columns["a"][0] == [1]
    assert np.isnan(columns["a"][1])
    assert 'came "z", expected a number' in refused(b"c,a\nx,z\n", "text/csv", Signature("t", fields, ()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("age,count,city,good,day\n", "at least one row"),
        ("age,count,city,good,day\n1,2,a,true\n", "rows[0]: came 4 cells, expected 5"),
        ("age,count,city,good\n1,2,a,true\n", "has no 'day'"),
        ("age,count,city,good,day,more\n1,2,a,true,,5\n", 'has "more", which is no input'),
        ("age,age,city,good,day\n1,2,a,true,\n", "comes twice"),
        ("age,count,city,good,day\nx,2,a,true,\n", 'came "x", expected a number'),
        ("age,count,city,good,day\n1,,a,true,\n", "came null"),
        ("age,count,city,good,day\n1,2,,true,\n", 'came ""'),
        ("age,count,city,good,day\nnan,2,a,true,\n", 'came "nan"'),
        ("age,count,city,good,day\n1,1_000,a,true,\n", 'came "1_000"'),
        ("age,count,city,good,day\n1,\u0661,a,true,\n", 'came "\u0661"'),
        ('age,count,city,good,day\n1,2,"a,true,\n', "is not CSV"),
    ],
)
def test_wrong_csv_is_refused_in_words(text, words):
    assert words in refused(text.encode(), "text/csv")


def test_a_wide_table_has_names_that_are_told_apart():
    wide = Signature("t", (Field("features", "FP32", (-1, 3), "array"),), ())
    assert "the column 'a' comes twice" in refused(b"a,b,a\n1,2,3\n", "text/csv", wide)
    assert "expected a number" in refused("a,b,c\n\u0661,2,3\n".encode(), "text/csv", wide)


def test_a_table_that_is_said_to_be_in_another_charset_is_not_taken():
    wide = Signature("t", (Field("features", "FP32", (-1, 3), "array"),), ())
    for charset in ("latin-1", '"utf-16"', ""):
        with pytest.raises(bodies.UnknownType, match=r"the charset .* is not taken\. Send UTF-8"):
            read(b"a,b,c\n1,2,3\n", f"text/csv; header=present; charset={charset}", wide)
    for charset in ("UTF-8", '"utf8"', "us-ascii"):
        assert read(b"a,b,c\n1,2,3\n", f"text/csv;Charset={charset}", wide)["features"].tolist() == [[1, 2, 3]]


def test_an_image_is_the_one_row_of_a_model_of_images():
    pixels = np.arange(12).reshape(3, 4) * 20
    gray = Signature("t", (Field("image", "FP32", (-1, 3, 4), "image"),), ())
    assert read(png(pixels), "image/png", gray)["image"].tolist() == [pixels.tolist()]
    colours = np.stack([pixels, pixels + 1, pixels + 2], axis=2)
    last = Signature("t", (Field("image", "UINT8", (-1, 3, 4, 3), "image"),), ())
    first = Signature("t", (Field("image", "FP32", (-1, 3, 3, 4), "image"),), ())
    assert read(png(colours), "image/png", last)["image"][0].tolist() == colours.tolist()
    assert read(png(colours), "image/png", Signature("t", (Field("x", "FP32", (-1, 3, -1, -1), "image"),), ()))[
        "x"
    ].shape == (1, 3, 3, 4)
    assert read(png(colours), "image/png", first)["image"].shape == (1, 3, 3, 4)


def test_an_image_is_turned_and_sized_as_the_model_takes_it():
    pixels = np.zeros((8, 4), np.uint8)
    pixels[:4] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", exif=exif, quality=95)
    gray = Signature("t", (Field("image", "FP32", (-1, 2, 4), "image"),), ())
    found = read(data.getvalue(), "image/jpeg", gray)["image"][0]
    assert found[:, 0].max() < 20
    assert found[:, 3].min() > 180


def bomb(width, height):
    """A PNG whose header promises more pixels than it holds."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_bad_images_are_refused_in_words():
    gray = Signature("t", (Field("image", "FP32", (-1, 8, 8), "image"),), ())
    assert "no image that can be read" in refused(b"nothing", "image/png", gray)
    assert "no image that can be read" in refused(png(np.zeros((8, 8)))[:40], "image/png", gray)
    said = refused(b"GIF89a" + bytes(20), "image/png", gray)
    assert said == r"body: is no image that can be read: it begins with b'GIF89a\x00\x00'. Send a whole PNG or JPEG."
    for side in (7_100, 12_000, 100_000):
        assert "more than 50,000,000 pixels" in refused(bomb(side, side), "image/png", gray)
    assert "the model takes age (number), count" in refused(png(np.zeros((8, 8))), "image/png")


def test_a_sound_is_the_one_row_of_a_model_of_sequences():
    floats = Signature("t", (Field("sound", "FP32", (-1, -1), "sequence"), Field("sr", "INT64", (), axis=None)), ())
    columns = read(wav(struct.pack("<4h", 0, 16384, -32768, 8192)), "audio/wav", floats)
    assert columns["sound"].tolist() == [[0, 0.5, -1, 0.25]]
    assert int(columns["sr"]) == 16_000
    stereo = wav(struct.pack("<4h", 0, 16384, -16384, -16384), channels=2)
    assert read(stereo, "audio/x-wav", floats)["sound"].tolist() == [[0.25, -0.5]]
    assert read(wav(bytes([128, 255]), 1), "audio/wav", floats)["sound"].tolist() == [[0, 127 / 128]]
    assert read(wav(bytes([0, 0, 0x40, 0, 0, 0x80]), 3), "audio/wav", floats)["sound"].tolist() == [[0.5, -1]]
    whole = Signature("t", (Field("x", "INT16", (-1, 2, 1), "sequence"),), ())
    assert read(wav(struct.pack("<2h", 5, -7)), "audio/wav", whole)["x"].tolist() == [[[5], [-7]]]


def test_bad_sounds_are_refused_in_words():
    fixed = Signature("t", (Field("sound", "FP32", (-1, 3), "sequence"),), ())
    assert "no WAV that can be read" in refused(b"RIFF", "audio/wav", fixed)
    assert "has 2 samples, the model takes 3" in refused(wav(bytes(4)), "audio/wav", fixed)
    assert "has no samples" in refused(wav(b""), "audio/wav", fixed)
    assert "is a sound, the model takes" in refused(wav(bytes(4)), "audio/wav")
    small = (Field("sound", "FP32", (-1, -1), "sequence"), Field("sr", "INT16", (), axis=None))
    said = refused(wav(bytes(4), rate=44_100), "audio/wav", Signature("t", small, ()))
    assert "has 44100 samples a second, more than sr holds as INT16" in said


SOUNDS = Signature("t", (Field("sound", "FP32", (-1, -1), "sequence"),), ())
SOUND = wav(bytes(range(200)))


@pytest.mark.parametrize(
    ("at", "put", "words"),
    [
        (4, "ffffffff", "it says that 4294967295 bytes follow its first 8, came 236"),
        (4, "00000000", "it says that 0 bytes follow its first 8, came 236"),
        (12, "666d7420ffffff7f", "its chunk b'fmt ' says 2147483647 bytes, and 224 are left"),
        (16, "0f000000", "its chunk "),
        (16, "11000000", "its chunk "),
        (20, "0300", "of format 3, expected 1, which is PCM"),
        (20, "feff", "of format 65534, expected 1, which is PCM"),
        (22, "0000", "it says 2 bytes a frame of 0 channels with 16 bits"),
        (22, "0200", "it says 2 bytes a frame of 2 channels with 16 bits"),
        (24, "00000000", "it says 0 frames a second"),
        (32, "0000", "it says 0 bytes a frame"),
        (34, "0000", "its samples have 0 bits, expected 8, 16, 24 or 32"),
        (36, "66", "it does not have both the chunks 'fmt ' and 'data'"),
        (36, "666d7420", "it has the chunk 'fmt ' twice"),
        (40, "ffffffff", "its chunk b'data' says 4294967295 bytes, and 200 are left"),
        (40, "c7000000", "199 bytes of samples are not whole frames of 2 bytes"),
        (40, "c6000000", "2 bytes follow where its chunks should end"),
        (40, "64000000", "its chunk b'defg' says"),
    ],
)
def test_a_sound_with_a_length_that_lies_is_refused_in_words(at, put, words):
    piece = bytes.fromhex(put)
    said = refused(SOUND[:at] + piece + SOUND[at + len(piece) :], "audio/wav", SOUNDS)
    assert words in said
    assert said.endswith("Send the whole file, as plain PCM.")


def test_a_sound_that_was_cut_or_made_longer_is_refused_wherever():
    for end in range(1, len(SOUND)):
        assert "no WAV that can be read" in refused(SOUND[:end], "audio/wav", SOUNDS)
    assert "no WAV that can be read" in refused(SOUND + bytes(2), "audio/wav", SOUNDS)


def riff(*chunks):
    """A WAV file of chunks, each padded to an even length."""
    parts = [name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks]
    content = b"WAVE" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def test_a_sound_may_have_other_chunks_and_the_long_form():
    form = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16))
    data = (b"data", struct.pack("<2h", 16384, -32768))
    file = riff((b"JUNK", b"odd"), form, (b"LIST", b"INFO"), data, (b"LIST", b"x"), (b"id3 ", b"y"))
    assert read(file, "audio/wav", SOUNDS)["sound"].tolist() == [[0.5, -1]]
    subtype = bytes.fromhex("0100000000001000800000aa00389b71")
    longer = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 24_000, 3, 24, 22, 24, 4) + subtype
    file = riff((b"fmt ", longer), (b"data", bytes([0, 0, 0x40])))
    assert read(file, "audio/wav", SOUNDS)["sound"].tolist() == [[0.5]]
    assert "no WAV" in refused(riff(form, *[(b"JUNK", b"")] * 1000, data), "audio/wav", SOUNDS)


def test_the_type_decides_and_unknown_ones_are_415(service):
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

    def ask(name, body, kind=None):
        connection.request("POST", f"/predict/{name}", body, {"content-type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    rows = b"[[3, 1], [1, 3]]"
    for kind in (None, "application/json; charset=utf-8", "application/x-www-form-urlencoded"):
        assert ask("flowers", rows, kind)[0] == 200
    table = ask("flowers", b"width,length\n1,3\n3,1\n", "text/csv")[1]
    assert [row["label"] for row in table["predictions"]] == ["long", "wide"]
    bright = np.zeros((8, 8))
    bright[5:] = 255
    assert ask("pictures", png(bright), "image/png")[1]["predictions"][0]["label"] == 1
    for kind in ("application/xml", "video/mp4", "multipart/form-data; boundary=x"):
        code, answer = ask("flowers", b"<a/>", kind)
        assert code == 415
        assert "text/csv" in answer["error"]
    connection.close()


def test_csv_has_truths_for_a_tensor_of_them():
    signature = Signature("t", (Field("x", "BOOL", (-1, 2), "array"),), ())
    assert read(b"a,b\ntrue,0\n", "text/csv", signature)["x"].tolist() == [[True, False]]
    assert "expected true or false" in refused(b"a,b\ntrue,2\n", "text/csv", signature)


COUNT = 20_000
"""Rows whose text is so long that it is read in pieces."""
PAIRS = Signature("t", (Field("v", "FP32", (-1, -1), "array"), Field("s", "BYTES", nullable=True)), ())


def long_rows():
    texts = ["a],b", '"},{', "\\", None]
    return [{"v": [number, 0.5], "s": texts[number % 4]} for number in range(COUNT)]


def as_lists(rows):
    return [list(row.values()) for row in rows]


@pytest.mark.parametrize("kind", [list, as_lists])
@pytest.mark.parametrize("indent", [None, 1])
def test_long_rows_are_read_in_pieces_and_give_what_they_give_in_one(kind, indent):
    body = json.dumps(kind(long_rows()), indent=indent).encode()
    texts = [text for _, text in lists.whole(body).pieces("body")]
    assert len(texts) > 3
    assert max(map(len, texts)) < 2 * lists.BYTES
    columns = read(body, "application/json", PAIRS)
    assert columns["v"].tolist() == [row["v"] for row in long_rows()]
    assert columns["s"].tolist() == [row["s"] or "" for row in long_rows()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[-5].update(v=[1, 2, 3]), f"rows[{COUNT - 5}].v: came a list of 3, expected a list of 2"),
        (lambda rows: rows[-5].update(v=[1, "x"]), f'rows[{COUNT - 5}].v[1]: came "x", expected a number'),
        (lambda rows: rows[-5].pop("s"), f"rows[{COUNT - 5}]: has no 's'"),
        (lambda rows: rows.append([1]), f"rows[{COUNT}]: came a list of 1, expected 2"),
    ],
)
def test_what_is_wrong_in_long_rows_is_said_with_the_number_of_the_row(change, words):
    rows = long_rows()
    change(rows)
    assert words in refused(json.dumps(rows).encode(), "application/json", PAIRS)


def test_long_rows_that_are_no_json_are_refused():
    body = json.dumps(long_rows()).encode()
    for wrong in (body[:-1], body[:-1] + b",]", body + b"]", body[:-3], body.replace(b"0.5]", b"0.5", 1)):
        assert "is not JSON" in refused(wrong, "application/json", PAIRS)
    twice = body.replace(b'{"v": [19999,', b'{"s": "", "v": [19999,')
    assert "comes twice in one object" in refused(twice, "application/json", PAIRS)


def test_a_long_table_is_read_some_lines_at_a_time():
    lines = [f'{number},{number},"a,\nb",true,' for number in range(3000)]
    columns = read("\n".join(["age,count,city,good,day", *lines]).encode(), "text/csv")
    assert columns["count"].tolist() == list(range(3000))
    assert set(columns["city"].tolist()) == {"a,\nb"}
    lines[2500] = "1,x,a,true,"
    message = refused("\n".join(["age,count,city,good,day", *lines]).encode(), "text/csv")
    assert message.startswith('rows[2500].count: came "x"')
    lines[2500] = "1,2"
    message = refused("\n".join(["age,count,city,good,day", *lines]).encode(), "text/csv")
    assert message.startswith("rows[2500]: came 2 cells, expected 5")
