"""HTTP-date (RFC 9110 5.6.7): the one form to write, the three to read, and nothing else.

    Sun, 06 Nov 1994 08:49:37 GMT     IMF-fixdate
    Sunday, 06-Nov-94 08:49:37 GMT    RFC 850 (obsolete): two digits of the year
    Sun Nov  6 08:49:37 1994          asctime (obsolete)

Day, month and zone names are read in any case; a zone other than GMT, doubled spaces, a missing comma or a one-digit
hour make it no date, and an Expires that is no date is in the past (RFC 9111 5.3).
"""

from __future__ import annotations

import re

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_MONTH_LENGTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_IMF = re.compile(
    rb"(?:" + b"|".join(_DAYS) + rb"), (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT\Z",
    re.IGNORECASE,
)
_RFC850 = re.compile(
    rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{2})-"
    + _MONTH
    + rb"-(?P<year>[0-9]{2}) "
    + _TIME
    + rb" GMT\Z",
    re.IGNORECASE,
)
_ASCTIME = re.compile(
    rb"(?:" + b"|".join(_DAYS) + rb") " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" (?P<year>[0-9]{4})\Z",
    re.IGNORECASE,
)

_DAY_S = 86400
_CENTURY_PIVOT = 70  # without a present to compare with, years 00-69 are of this century


def parse_http_date(value: bytes, now_ms: int | None = None) -> int | None:
    """Seconds since 1970, or None when `value` is no HTTP-date (RFC 9110 5.6.7).

    A two-digit year more than fifty years after `now_ms` is of the century before.
    """
    match = _IMF.match(value) or _RFC850.match(value) or _ASCTIME.match(value)
    if match is None:
        return None
    month = _MONTH_NUMBER[match["month"].lower()]
    day = int(match["day"].lstrip(b" "))
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    year = int(match["year"])
    if match.re is _RFC850:
        year += _century(year, now_ms)
    # A leap second may be written (RFC 9110 5.6.7 keeps RFC 5322's grammar); it counts as the second before.
    if not (1 <= day <= _month_length(year, month) and hour < 24 and minute < 60 and second <= 60):
        return None
    return _days(year, month, day) * _DAY_S + hour * 3600 + minute * 60 + min(second, 59)


def format_http_date(seconds: int) -> bytes:
    """The IMF-fixdate of a moment (RFC 9110 5.6.7)."""
    days, rest = divmod(seconds, _DAY_S)
    year, month, day = _civil(days)
    name = _DAYS[(days + 3) % 7]
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        name,
        day,
        _MONTHS[month - 1],
        year,
        rest // 3600,
        rest // 60 % 60,
        rest % 60,
    )


def _century(year: int, now_ms: int | None) -> int:
    if now_ms is None:
        return 2000 if year < _CENTURY_PIVOT else 1900
    present = _civil(now_ms // (_DAY_S * 1000))[0]
    century = present // 100 * 100
    return century - 100 if century + year > present + 50 else century


def _month_length(year: int, month: int) -> int:
    if month == 2 and (year % 4 or (year % 100 == 0 and year % 400)):
        return 28
    return _MONTH_LENGTH[month - 1]


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar, by 400-year eras that begin in March."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _civil(days: int) -> tuple[int, int, int]:
    """The inverse of `_days`."""
    era, of_era = divmod(days + 719468, 146097)
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    number = month + 3 if month < 10 else month - 9
    return year + era * 400 + (number <= 2), number, day
