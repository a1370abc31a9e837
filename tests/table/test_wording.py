"""Numbers and names in words."""

import math

import pytest

from l2d_jax.table import wording

NAN = math.nan


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.percent(0.8125), "81.2 %"),
        (wording.percent(-0.00001), "0.0 %"),
        (wording.percent(NAN), wording.UNKNOWN),
        (wording.percent(0.815, 0), "82 %"),
        (wording.rough_percent(0.2), "20 %"),
        (wording.rough_percent(0.0), "0 %"),
        (wording.rough_percent(0.004), "0.4 %"),
        (wording.rough_percent(0.0001), "less than 0.1 %"),
        (wording.rough_percent(0.997), "99.7 %"),
        (wording.rough_percent(0.9999), "more than 99.9 %"),
        (wording.rough_percent(1.0), "100 %"),
        (wording.rough_percent(NAN), wording.UNKNOWN),
        (wording.fixed(0.04, 1, sign=True), "0.0"),
        (wording.fixed(-0.04, 1, sign=True), "0.0"),
        (wording.fixed(2.0, 1, sign=True), "+2.0"),
        (wording.interval(-0.008, 0.016), "-0.8 to 1.6"),
        (wording.interval(NAN, 0.016), wording.UNKNOWN),
        (wording.p_value(0.0004), "< 0.001"),
        (wording.p_value(0.0123), "0.012"),
        (wording.p_value(0.2), "0.20"),
        (wording.p_value(NAN), wording.UNKNOWN),
        (wording.significant(41250.0), "41,250"),
        (wording.significant(1.926), "1.93"),
        (wording.significant(-0.03141), "-0.0314"),
        (wording.significant(1e-7), "1.00e-07"),
        (wording.significant(0.0), "0"),
        (wording.day(19783.9), "2024-03-01"),
        (wording.day(-0.5), "1969-12-31"),
        (wording.day(NAN), wording.UNKNOWN),
        (wording.significant(NAN), wording.UNKNOWN),
        (wording.significant(math.inf), "inf"),
        (wording.significant(-math.inf), "-inf"),
        (wording.count(6175), "6,175"),
        (wording.count(NAN), wording.UNKNOWN),
        (wording.plural(1, "case"), "1 case"),
        (wording.plural(1200, "case"), "1,200 cases"),
    ],
)
def test_numbers(said, expected):
    assert said == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\r\nb\tc", "a  b c"),
        ("\x1b[31mred\x00", "\ufffd[31mred\ufffd"),
        ("\u202eright to left", "\ufffdright to left"),
        ("half \ud800", "half \ufffd"),
        ("טליה כהן", "טליה כהן"),
        ("👩🏽‍⚕️", "👩🏽‍⚕️"),
    ],
)
def test_names_command_nothing(name, expected):
    assert wording.printable(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ""),
        ("abcde", "abcde"),
        ("abcdef", "abcd…"),
        ("張偉a", "張偉a"),
        ("張偉張", "張偉…"),
    ],
)
def test_names_are_cut_to_a_width(name, expected):
    assert wording.shorten(name, 5) == expected
