"""Turn dates into numbers that a model can learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from modelmill.contracts import Array, Column, Preparation
from modelmill.fragment import Writer
from modelmill.prepare.block import values, without
from modelmill.signature import NO_DATE

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
ERA_DAYS = 146_097
"""Days of 400 years, after which the calendar repeats."""
ERAS = 800_000
"""Eras added so that no division meets a negative number, however early the date."""
START_DAY = 719_468
"""Days from the first of March of the year 0 to 1970: the calendar is counted from March, leap days last."""

Part = Literal["year", "month", "day", "weekday", "hour", "days"]


class Dates(Preparation):
    """Year, month, day, weekday (Monday is 0), hour, and days since the middle of the training dates, in UTC.

    Integer arithmetic throughout: exact in every leap year and before 1970. A missing date gives gaps, so that
    `impute` comes after. All date columns go through the same twenty-odd operations together.

    Neri & Schneider (2023), Euclidean affine functions and their application to calendar algorithms,
    https://doi.org/10.1002/spe.3172
    """

    parts: tuple[Part, ...] = ("year", "month", "day", "weekday", "hour", "days")
    """Which numbers are made of a date."""

    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Date columns become one block of numbers."""
        dates = [column for column in columns if column.kind == "date"]
        if not dates or not self.parts:
            return without(columns, dates)
        stamps = _stack(dates, writer)
        missing = writer.op("Equal", [stamps, writer.constant(NO_DATE, np.int64)])
        known = writer.op("Where", [missing, writer.constant(0, np.int64), stamps])
        made = _parts(known, _middle_days(dates), writer)
        table = writer.op("Concat", [made[part] for part in self.parts], {"axis": 2})
        table = writer.op("Cast", [table], {"to": 1})
        table = writer.op("Where", [missing, writer.constant(np.float32(np.nan)), table])
        table = writer.op("Reshape", [table, writer.constant([-1, len(dates) * len(self.parts)], np.int64)])
        labels = tuple(f"{column.labels[0]} {part}" for column in dates for part in self.parts)
        return [*without(columns, dates), Column(table, "number", labels)]


def _stack(dates: Sequence[Column], writer: Writer) -> str:
    """All dates as one (rows, columns, 1) value."""
    if len(dates) == 1:
        return writer.op("Reshape", [dates[0].name, writer.constant([-1, 1, 1], np.int64)])
    joined = writer.op("Concat", [column.name for column in dates], {"axis": 0})
    table = writer.op("Reshape", [joined, writer.constant([len(dates), -1, 1], np.int64)])
    return writer.op("Transpose", [table], {"perm": [1, 0, 2]})


def _middle_days(dates: Sequence[Column]) -> Array:
    """The median day of every column in training: (columns, 1) int64, 0 where no date is known."""
    middles = []
    for column in dates:
        found = values(column)
        days = np.floor_divide(found[found != NO_DATE], DAY_MS)
        middles.append(int(np.median(days)) if len(days) else 0)
    return np.array(middles, np.int64).reshape(-1, 1)


def _parts(stamps: str, middle: Array, writer: Writer) -> dict[Part, str]:
    """The value of every part: (rows, columns, 1) int64."""

    def number(type: str, left: str, right: object) -> str:
        return writer.op(type, [left, writer.constant(right, np.int64)])

    in_day = number("Mod", stamps, DAY_MS)
    days = number("Div", writer.op("Sub", [stamps, in_day]), DAY_MS)
    weekday = number("Mod", number("Add", days, 3), 7)
    # Quarters of days from March of an early year on: a century is then 146097 quarters of a day times a century.
    quarters = number("Add", number("Mul", days, 4), 4 * (START_DAY + ERAS * ERA_DAYS) + 3)
    century, rest = number("Div", quarters, ERA_DAYS), number("Mod", quarters, ERA_DAYS)
    # Back to whole days, and three quarters on, by which leap years fall into place.
    rest = number("Add", writer.op("Sub", [rest, number("Mod", rest, 4)]), 3)
    in_year = number("Div", number("Mod", rest, 1461), 4)
    # 2141 / 2**16 is a month a day, near enough for every day of a year that starts in March.
    months = number("Add", number("Mul", in_year, 2141), 197_913)
    month, day = number("Div", months, 65_536), number("Div", number("Mod", months, 65_536), 2141)
    carry = number("Div", month, 13)
    year = writer.op("Add", [number("Mul", century, 100), number("Div", rest, 1461)])
    return {
        "year": number("Sub", writer.op("Add", [year, carry]), 400 * ERAS),
        "month": writer.op("Sub", [month, number("Mul", carry, 12)]),
        "day": number("Add", day, 1),
        "weekday": weekday,
        "hour": number("Div", in_day, HOUR_MS),
        "days": number("Sub", days, middle),
    }
