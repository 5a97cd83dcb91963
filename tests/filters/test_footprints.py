"""Footprints against their formulas, pixel by pixel, in fractions."""

import re
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from chunkfilt.filters.footprints import (
    ball,
    describe_footprint,
    disk,
    ellipse,
    make_footprint,
    ring,
)

# Quarters are exact as floats, so both sides of every comparison are exact.
RADIUS = st.integers(0, 36).map(lambda n: n / 4)


def brute(half, inside):
    spans = [range(-h, h + 1) for h in half]
    grid = np.array(np.meshgrid(*spans, indexing="ij")).reshape(len(half), -1).T.tolist()
    flat = [inside(*map(Fraction, at)) for at in grid]
    return np.array(flat, dtype=bool).reshape([len(s) for s in spans])


def same(result, expected):
    assert result.dtype == bool
    assert_array_equal(result, expected)


@settings(max_examples=30, deadline=None)
@given(RADIUS)
def test_disk_and_ball(r):
    h, rr = floor(r), Fraction(r) ** 2
    same(disk(r), brute((h, h), lambda y, x: y * y + x * x <= rr))
    if r <= 4:
        same(ball(r), brute((h,) * 3, lambda z, y, x: z * z + y * y + x * x <= rr))


@settings(max_examples=30, deadline=None)
@given(RADIUS, RADIUS)
def test_ellipse(ry, rx):
    yy, xx = Fraction(ry) ** 2, Fraction(rx) ** 2
    inside = brute((floor(ry), floor(rx)), lambda y, x: y * y * xx + x * x * yy <= xx * yy)
    same(ellipse(ry, rx), inside)


@settings(max_examples=30, deadline=None)
@given(RADIUS, RADIUS)
def test_ring(a, b):
    r0, r1 = sorted((a, b))
    inside = brute(
        (floor(r1),) * 2,
        lambda y, x: Fraction(r0) ** 2 <= y * y + x * x <= Fraction(r1) ** 2,
    )
    if inside.any():
        same(ring(r0, r1), inside)
    else:
        with pytest.raises(ValueError, match="widen the ring"):
            ring(r0, r1)


def test_by_hand():
    cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert disk(1).astype(int).tolist() == cross
    assert disk(0).tolist() == [[True]]
    assert disk(1.5).all()
    assert ring(1, 1.5).astype(int).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert int(disk(5).sum()) == 81  # lattice points of a circle of radius 5
    assert int(ball(2).sum()) == 33


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: disk(-1), "r must be >= 0"),
        (lambda: disk(501), "r must be >= 0 and <= 500"),
        (lambda: disk(float("nan")), "r must be >= 0"),
        (lambda: disk("3"), "r must be a number"),
        (lambda: disk(True), "r must be a number"),
        (lambda: ellipse(3, -1), "rx must be >= 0"),
        (lambda: ring(3, 2), "r0 must be <= r1"),
        (lambda: ring(1.1, 1.2), "no pixel lies between"),
        (lambda: make_footprint({"dsk": 3}), "one of disk, ball, ellipse, ring"),
        (lambda: make_footprint({"disk": 3, "ring": 3}), "one of disk"),
        (lambda: make_footprint({"ellipse": 3}), "must give ellipse its radius"),
        (lambda: make_footprint({"ring": "12"}), "must give ring its radius"),
        (lambda: make_footprint([[0, 0], [0, 0]]), "at least one 1"),
        (lambda: make_footprint([[0, 2]]), "array of 0 and 1"),
        (lambda: make_footprint([[0, 1], [1]]), "array of 0 and 1"),
        (lambda: make_footprint(3), "array of 0 and 1"),
        (lambda: make_footprint("disk"), "array of 0 and 1"),
        (lambda: make_footprint([[0, np.nan]]), "array of 0 and 1"),
        (lambda: make_footprint(np.ones(1002)), "at most 1001 pixels"),
        (lambda: make_footprint([]), "at least one 1"),
        (lambda: make_footprint(None), "array of 0 and 1"),
    ],
)
def test_what_cannot_be_a_footprint(make, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


@pytest.mark.parametrize(
    "value", [[[0, 1], [1, 1]], np.array([[0, 1.0], [1, 1]]), ((False, True), (True, True))]
)
def test_arrays_and_nested_lists_of_0_and_1(value):
    same(make_footprint(value), np.array([[0, 1], [1, 1]], dtype=bool))


@pytest.mark.parametrize(
    "footprint",
    [
        disk(3),
        disk(2.5),
        disk(0),
        ball(2),
        ellipse(2, 5),
        ellipse(2.5, 4.5),
        ring(2, 4),
        np.ones((2, 5), bool),
        np.ones((3, 3), bool),
        np.eye(4, dtype=bool),
        np.ones(4, bool),
    ],
)
def test_what_stands_in_yaml_makes_the_same_footprint(footprint):
    same(make_footprint(describe_footprint(footprint)), footprint)


def test_a_disk_stands_in_yaml_as_a_disk():
    assert describe_footprint(disk(5)) == {"disk": 5}
    assert describe_footprint(ball(3)) == {"ball": 3}
    assert describe_footprint(ellipse(2, 6)) == {"ellipse": [2, 6]}
