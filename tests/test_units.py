"""Quantities: what is read, what is shown, and what is refused with which words."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torussim.errors import UnitError
from torussim.units import positive, read, show

UNITS = ("B", "s", "B/s", "FLOP/s", "FLOP")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("45 GB/s", "B/s", 45e9),
        ("22.5GB/s", "B/s", 22.5e9),
        ("400 Gbit/s", "B/s", 50e9),
        ("8 bit", "B", 1.0),
        ("1 us", "s", 1e-6),
        ("1 \N{MICRO SIGN}s", "s", 1e-6),
        ("1 \N{GREEK SMALL LETTER MU}s", "s", 1e-6),
        ("93.8 ms", "s", 0.0938),
        ("7 ns", "s", 7e-9),
        ("1e-6 s", "s", 1e-6),
        ("2 s", "s", 2.0),
        ("512 MiB", "B", 512 * 2**20),
        ("1 GB", "B", 1e9),
        ("1 GiB", "B", 2**30),
        ("1 KiB", "B", 1024.0),
        ("1 Tibit/s", "B/s", 2**37),
        ("64 MB", "B", 64e6),
        ("3 kB", "B", 3e3),
        ("3 KB", "B", 3e3),
        ("2 PB", "B", 2e15),
        ("1 EiB", "B", 2**60),
        ("1E3B", "B", 1e3),
        ("275 TFLOP/s", "FLOP/s", 275e12),
        ("1e12 FLOP", "FLOP", 1e12),
        ("  .5e+1  MFLOP ", "FLOP", 5e6),
        ("5.", "B", 5.0),
        ("+45", "B/s", 45.0),
        ("1e-9999 s", "s", 0.0),
    ],
)
def test_a_text_is_read_as_its_number_of_base_units(text: str, unit: str, value: float) -> None:
    assert read(text, unit) == value


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False), st.sampled_from(UNITS))
def test_a_number_and_its_text_pass_through_in_base_units(value: float, unit: str) -> None:
    assert read(value, unit) == value
    assert read(repr(value), unit) == value
    assert read(f"{value!r} {unit}", unit) == value


@given(st.integers(0, 10**15), st.sampled_from(["k", "M", "G", "T", "P", "E"]), st.sampled_from(["B", "B/s", "FLOP"]))
def test_a_prefix_is_the_power_of_ten_that_it_stands_for(count: int, prefix: str, unit: str) -> None:
    power = 3 * ("kMGTPE".index(prefix) + 1)
    assert read(f"{count}{prefix}{unit}", unit) == float(count * 10**power)


@given(st.floats(0, 1e6), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]), st.sampled_from(["", "/s"]))
def test_a_byte_is_eight_bits(number: float, prefix: str, per: str) -> None:
    bits, whole = read(f"{number!r} {prefix}bit{per}", f"B{per}"), read(f"{number!r} {prefix}B{per}", f"B{per}")
    assert bits == pytest.approx(whole / 8, rel=1e-15, abs=1e-300)


def test_zero_is_read_without_a_sign() -> None:
    assert math.copysign(1, read("-0 s", "s")) == 1
    assert read(0, "B") == 0


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (
            "fast",
            "B/s",
            "'fast' is not a bandwidth: write a number of bytes/s or one with a unit, such as \"45 GB/s\"",
        ),
        (
            "45 GB",
            "B/s",
            "'45 GB' is a number of bytes, not a bandwidth: write a number of bytes/s or one with a unit, such as",
        ),
        ("1 us", "B", "'1 us' is a time, not a number of bytes: write a number of bytes or one with a unit"),
        ("8 Gbit", "B/s", "'8 Gbit' is a number of bytes, not a bandwidth"),
        ("1 TFLOP", "FLOP/s", "'1 TFLOP' is a number of FLOP, not a FLOP rate: write a number of FLOP/s"),
        ("1 TFLOP/s", "FLOP", "'1 TFLOP/s' is a FLOP rate, not a number of FLOP"),
        ("", "s", "'' is not a time: write a number of seconds or one with a unit, such as \"1 us\""),
        ("5M", "B", "'5M' is not a number of bytes"),
        ("400 Gb/s", "B/s", "'400 Gb/s' is not a bandwidth"),
        ("1 Ms", "s", "'1 Ms' is not a time"),
        ("5 mB", "B", "'5 mB' is not a number of bytes"),
        ("5 KiFLOP", "FLOP", "'5 KiFLOP' is not a number of FLOP"),
        ("4 5 B", "B", "'4 5 B' is not a number of bytes"),
        ("\N{ARABIC-INDIC DIGIT FIVE} B", "B", "is not a number of bytes"),
        (True, "B", "'True' is not a number of bytes"),
        (None, "s", "'None' is not a time"),
        ([45], "B/s", "'[45]' is not a bandwidth"),
        (-1, "B", "'-1' is not a number of bytes: must be finite and not negative"),
        ("-1 GB/s", "B/s", "'-1 GB/s' is not a bandwidth: must be finite and not negative"),
        (math.nan, "s", "'nan' is not a time: must be finite and not negative"),
        (math.inf, "s", "'inf' is not a time: must be finite and not negative"),
        ("nan", "s", "'nan' is not a time: must be finite and not negative"),
        ("-inf GB/s", "B/s", "'-inf GB/s' is not a bandwidth: must be finite and not negative"),
        (".inf", "B", "'.inf' is not a number of bytes: must be finite and not negative"),
        ("1e999 B", "B", "'1e999 B' is not a number of bytes: must be finite and not negative"),
        (10**400, "B", "is not a number of bytes: must be finite and not negative"),
    ],
)
def test_what_is_no_quantity_is_refused_with_what_would_do(value: Any, unit: str, message: str) -> None:
    with pytest.raises(UnitError, match=re.escape(message)):
        read(value, unit)


def test_positive_refuses_zero_and_what_read_refuses() -> None:
    assert positive("1 ns", "s") == 1e-9
    with pytest.raises(UnitError, match=r"'0 GB/s' is not a bandwidth that can be used: must be above 0"):
        positive("0 GB/s", "B/s")
    with pytest.raises(UnitError, match=r"'-1' is not a time: must be finite and not negative"):
        positive(-1, "s")


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none(), st.sampled_from(UNITS))
def test_anything_is_read_or_refused_on_one_line(value: Any, unit: str) -> None:
    try:
        assert 0 <= read(value, unit) < math.inf
    except UnitError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 250


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0923, "s", "92.3 ms"),
        (4.72e6, "B", "4.72 MB"),
        (45e9, "B/s", "45 GB/s"),
        (275e12, "FLOP/s", "275 TFLOP/s"),
        (1e18, "FLOP", "1 EFLOP"),
        (0, "s", "0 s"),
        (0.0, "", "0"),
        (999.5, "B", "1 kB"),
        (999.4, "B", "999 B"),
        (0.000999951, "s", "1 ms"),
        (1.5e-9, "s", "1.5 ns"),
        (12345, "s", "12345 s"),
        (0.5, "B", "0.5 B"),
        (1e-15, "s", "1e-15 s"),
        (64 * 2**30, "B", "68.7 GB"),
        (1234567, "", "1234567"),
        (0.76234, "", "0.762"),
        (-0.003, "s", "-3 ms"),
        (math.inf, "s", "inf s"),
        (math.nan, "", "nan"),
    ],
)
def test_a_value_is_shown_with_the_prefix_that_fits(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@given(st.floats(1e-9, 1e3, exclude_max=True), st.integers(1, 17))
def test_the_number_of_a_shown_time_is_at_least_1_and_below_1000(value: float, digits: int) -> None:
    number, unit = show(value, "s", digits).split()
    assert 1 <= Decimal(number) < 1000 or (unit == "s" and value > 999)
    assert "e" not in number


@given(st.floats(1, 1e20), st.integers(1, 17), st.sampled_from(["B", "B/s", "FLOP/s", "FLOP"]))
def test_the_number_of_a_shown_amount_is_at_least_1_and_below_1000(value: float, digits: int, unit: str) -> None:
    number = show(value, unit, digits).split()[0]
    assert 1 <= float(number) < 1000
    assert "e" not in number


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False), st.sampled_from(UNITS))
def test_what_is_shown_with_all_digits_reads_back(value: float, unit: str) -> None:
    assert read(show(value, unit, 17), unit) == pytest.approx(value, rel=1e-15, abs=5e-324)


@given(st.floats(1e-12, 1e20), st.integers(3, 17), st.sampled_from(UNITS))
def test_what_is_shown_is_within_half_of_its_last_digit(value: float, digits: int, unit: str) -> None:
    assert read(show(value, unit, digits), unit) == pytest.approx(value, rel=0.5000001 * 10 ** (1 - digits) + 4e-16)
