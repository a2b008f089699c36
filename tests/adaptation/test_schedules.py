import math

import pytest

from crossrec.adaptation.schedules import Constant, DannRamp, Delayed, LinearRamp, schedule_of
from crossrec.errors import CrossrecError


def test_values():
    assert [Constant()(p) for p in (0.0, 1.0)] == [1.0, 1.0]
    assert [LinearRamp(0.5)(p) for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    assert DannRamp()(0.0) == 0.0
    assert DannRamp()(0.3) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    assert [Delayed(0.2, LinearRamp())(p) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.0, 0.5, 1.0])
    assert [Delayed(0.2)(p) for p in (0.19, 0.2)] == [0.0, 1.0]
    assert Delayed(0.2, "linear") == Delayed(0.2, LinearRamp())  # as every option that takes a schedule


def test_names():
    assert schedule_of("dann") == DannRamp() and schedule_of("delayed") == Delayed()
    assert schedule_of(LinearRamp(0.3)) == LinearRamp(0.3)
    with pytest.raises(CrossrecError, match="constant, linear, dann, delayed"):
        schedule_of("cosine")


@pytest.mark.parametrize("make", [lambda: LinearRamp(0.0), lambda: DannRamp(math.nan), lambda: Delayed(1.0)])
def test_impossible_options_are_refused(make):
    with pytest.raises(CrossrecError, match="schedule"):
        make()


def test_what_follows_a_delay_is_a_schedule():
    with pytest.raises(CrossrecError, match="no adaptation schedule 'cosine'"):
        Delayed(0.1, "cosine")
