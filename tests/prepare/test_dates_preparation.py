from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.dataset import Dataset
from modelmill.graph.build import to_onnx
from modelmill.prepare.chain import Prepared, prepare
from modelmill.prepare.dates import Dates
from modelmill.prepare.impute import Impute
from modelmill.runtime.session import Session
from modelmill.signature import NO_DATE, Field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHEN = Field("when", "INT64", kind="date", nullable=True)
TRAIN = Dataset((WHEN,), {"when": np.array([0, 86_400_000 * 10, 86_400_000 * 20], np.int64)})


def milliseconds(*parts: int) -> int:
    return (datetime(*parts, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def session(prepared: Prepared, dataset: Dataset) -> Session:
    return Session(to_onnx(prepared.fragment, dataset.fields, [Field("features", "FP32", (-1, *prepared.shape))]))


SESSION = session(prepare([Dates()], TRAIN, "table"), TRAIN)


def parts(*stamps: int) -> list[list[float]]:
    return SESSION.run({"when": np.array(stamps, np.int64)})["features"].tolist()


def test_a_leap_day_is_the_twenty_ninth_of_february() -> None:
    assert parts(milliseconds(2024, 2, 29, 13, 59)) == [[2024, 2, 29, 3, 13, 19782 - 10]]


def test_the_last_millisecond_before_1970_is_in_1969() -> None:
    assert parts(-1) == [[1969, 12, 31, 2, 23, -11]]


def test_1900_has_no_leap_day_and_2000_has_one() -> None:
    after = [parts(milliseconds(year, 2, 28) + 86_400_000)[0][:3] for year in (1900, 2000)]
    assert after == [[1900, 3, 1], [2000, 2, 29]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.datetimes(), min_size=40, max_size=40))
def test_parts_are_those_of_the_calendar_for_any_date(moments: list[datetime]) -> None:
    known = [moment.replace(tzinfo=UTC) for moment in moments]
    found = np.array(parts(*((moment - EPOCH) // timedelta(milliseconds=1) for moment in known)))
    wanted = [[m.year, m.month, m.day, m.weekday(), m.hour, (m - EPOCH).days - 10] for m in known]
    assert found.tolist() == wanted


def test_a_missing_date_gives_gaps_that_impute_fills() -> None:
    assert np.isnan(parts(NO_DATE)).all()
    filled = session(prepare([Dates(), Impute()], TRAIN, "table"), TRAIN)
    assert filled.run({"when": np.array([NO_DATE])})["features"].tolist() == [[1970, 1, 11, 3, 0, 0]]


def test_two_columns_keep_their_own_middle() -> None:
    fields = (WHEN, Field("then", "INT64", kind="date"))
    data = Dataset(fields, {"when": np.array([0, 0, 0]), "then": np.array([86_400_000] * 3)})
    prepared = prepare([Dates(parts=("days", "day"))], data, "table")
    assert prepared.labels == ("when days", "when day", "then days", "then day")
    assert session(prepared, data).run(data.columns)["features"].tolist() == [[0, 1, 0, 2]] * 3
