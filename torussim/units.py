"""Reading and printing of quantities with units. No other module knows any unit except the base units.

Inside torussim every quantity is a float of bytes, seconds, bytes/s, FLOP/s or FLOP. A prefix k (or K), M, G, T, P, E is a power
of 1000, Ki, Mi, Gi, Ti, Pi, Ei of 1024: GB = 1e9, GiB = 2**30. A bit is 1/8 byte. Seconds take m, u (or µ) and n, and no large
prefix, because 1 Ms is nearly always a misspelt 1 ms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from reprlib import Repr

from torussim.errors import UnitError

# Base unit -> the name of such a quantity, its base unit in words, an example.
_KINDS = {
    "B": ("a number of bytes", "bytes", "64 MB"),
    "s": ("a time", "seconds", "1 us"),
    "B/s": ("a bandwidth", "bytes/s", "45 GB/s"),
    "FLOP/s": ("a FLOP rate", "FLOP/s", "275 TFLOP/s"),
    "FLOP": ("a number of FLOP", "FLOP", "1 TFLOP"),
}
_BITS = {"bit": "B", "bit/s": "B/s"}
_TENS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_TWOS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_SMALL_TENS = {"": 0, "m": -3, "u": -6, "\N{MICRO SIGN}": -6, "\N{GREEK SMALL LETTER MU}": -6, "n": -9}
_SHOWN_TENS = (0, 3, 6, 9, 12, 15, 18)  # those of _TENS, "k" for 3
_SHOWN_SMALL_TENS = (-9, -6, -3, 0)

_QUANTITY = re.compile(
    r"\s*(?P<mantissa>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]{1,9}))?"
    r"\s*(?P<prefix>[kKMGTPE]i?|[mun\u00b5\u03bc])??(?P<unit>B/s|bit/s|B|bit|s|FLOP/s|FLOP)?\s*"
)
_NOT_FINITE = re.compile(r"\s*[+-]?\.?(?:inf|infinity|nan)\b.*", re.IGNORECASE | re.DOTALL)


def read(value: str | float, unit: str) -> float:
    """Return `value` in base units: `unit` is "B", "s", "B/s", "FLOP/s" or "FLOP".

    A number, or a text that is a plain number, is in base units already. Zero is allowed. Raise UnitError for a value that is no
    quantity, has a unit of another dimension, is not finite, or is negative.

    >>> read("45 GB/s", "B/s"), read("400 Gbit/s", "B/s"), read("512 MiB", "B"), read("1 us", "s")
    (45000000000.0, 50000000000.0, 536870912.0, 1e-06)
    """
    number = _read_text(value, unit) if isinstance(value, str) else _read_number(value, unit)
    if not (math.isfinite(number) and number >= 0):
        raise UnitError(f"{_quote(value)} is not {_KINDS[unit][0]}: must be finite and not negative")
    return abs(number)  # -0.0 is 0.0


def positive(value: str | float, unit: str) -> float:
    """Return the result of `read`. Raise UnitError for zero as well."""
    number = read(value, unit)
    if number == 0:
        raise UnitError(f"{_quote(value)} is not {_KINDS[unit][0]} that can be used: must be above 0")
    return number


def called(unit: str) -> tuple[str, str]:
    """Return the name of a quantity with this unit, and its base unit in words.

    >>> called("B/s")
    ('a bandwidth', 'bytes/s')
    """
    return _KINDS[unit][:2]


def pattern(unit: str) -> str:
    """Return a regular expression, in the dialect of JSON Schema, for the texts that `read` accepts for this unit.

    >>> [bool(re.search(pattern("B/s"), text)) for text in ("400 Gbit/s", "400 GB", "4e11")]
    [True, False, True]
    """
    def any_of(prefixes: Iterable[str]) -> str:
        return "(" + "|".join(prefix for prefix in prefixes if prefix) + ")?"
    symbols = "|".join([unit, *(bit for bit, of in _BITS.items() if of == unit)])
    prefixes = _SMALL_TENS if unit == "s" else [*_TENS, *_TWOS] if unit in ("B", "B/s") else _TENS
    return (rf"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{{1,9}})?\s*({any_of(prefixes)}({symbols}))?\s*$")


def show(value: float, unit: str, digits: int = 3) -> str:
    """Return `value`, in base units, as text with the prefix that brings the number into [1, 1000).

    `unit` is one that `read` knows, or "" for a plain count, which has no prefix. `digits` are significant digits; zeros at the
    end are left out, and digits before the point are never rounded away. A number that is still far from 1 with the last prefix
    has an exponent.

    >>> show(0.0923, "s"), show(4.72e6, "B"), show(999.9e6, "B/s"), show(0, "s"), show(1234.56, "")
    ('92.3 ms', '4.72 MB', '1 GB/s', '0 s', '1235')
    """
    if value < 0:
        return "-" + show(-value, unit, digits)
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    mantissa, _, exponent_text = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(exponent_text)
    choices = {"s": _SHOWN_SMALL_TENS, "": (0,)}.get(unit, _SHOWN_TENS)
    tens = max((choice for choice in choices if choice <= exponent), default=choices[0])
    if not -4 <= exponent - tens < 15:
        return f"{value:.{digits}g} {unit}".rstrip()
    scaled = Decimal(mantissa).scaleb(exponent - tens)
    if exponent - tens >= digits:
        scaled = Decimal(f"{Decimal(value).scaleb(-tens):.0f}")
    text = f"{scaled:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {_prefix(tens, unit)}{unit}".rstrip()


def _prefix(tens: int, unit: str) -> str:
    return next(prefix for prefix, power in (_SMALL_TENS if unit == "s" else _TENS).items() if power == tens)


def _read_number(value: float, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnitError(_refusal(value, unit))
    try:
        return float(value)
    except OverflowError:
        return math.inf


def percent(share: float) -> str:
    """Return a share in percent, with two digits, or three from 100 % on.

    >>> percent(0.00123), percent(0.0456), percent(1.0)
    ('0.12 %', '4.6 %', '100 %')
    """
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _read_text(text: str, unit: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        if _NOT_FINITE.fullmatch(text):
            return math.nan
        raise UnitError(_refusal(text, unit))
    prefix, symbol = match["prefix"] or "", match["unit"] or ""
    given = _BITS.get(symbol, symbol) or unit
    tens = (_SMALL_TENS if given == "s" else _TENS).get(prefix)
    twos = _TWOS.get(prefix) if given in ("B", "B/s") else None
    if (tens is None and twos is None) or (prefix and not symbol):
        raise UnitError(_refusal(text, unit))
    if given != unit:
        raise UnitError(_refusal(text, unit, f" is {_KINDS[given][0]}, not {_KINDS[unit][0]}"))
    # The prefix goes into the exponent, so that the decimal number is rounded only once: 93.8 ms is 0.0938.
    number = float(f"{match['mantissa']}e{int(match['exponent'] or 0) + (tens or 0)}")
    return number * (twos or 1) / (8 if symbol in _BITS else 1)


def _refusal(value: object, unit: str, reason: str = "") -> str:
    kind, base, example = _KINDS[unit]
    reason = reason or f" is not {kind}"
    return f'{_quote(value)}{reason}: write a number of {base} or one with a unit, such as "{example}"'


def _quote(value: object) -> str:
    """Return `value` in single quotes, on one line, shortened if it is long."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value) if isinstance(value, str) else f"'{short.repr(value)}'"
