"""The lr_schedules: factors of the peak over the full budget, warmup on top."""

from __future__ import annotations

import math

import pytest

from trainable.optimizers.lr_schedules import LR_SCHEDULES, LrSchedule, lr_factor

STEPS = 1000


@pytest.mark.parametrize(
    ("schedule", "factors"),  # at the start, the middle, four fifths, nine tenths of the budget
    [
        ("constant", (1, 1, 1, 1)),
        ("linear", (1, 0.5, 0.2, 0.1)),
        ("cosine", (1, 0.5, (3 - math.sqrt(5)) / 8, 0.5 - 0.5 * math.cos(math.pi / 10))),
        ("wsd", (1, 1, 1, 0.5)),
        ("inv_sqrt", (1, 1 / math.sqrt(5), 1 / math.sqrt(8), 1 / 3)),
    ],
)
def test_each_schedule_has_the_shape_of_its_source(
    schedule: LrSchedule, factors: tuple[float, ...]
) -> None:
    found = [lr_factor(schedule, 0, step, STEPS) for step in (0, 500, 800, 900)]
    assert found == pytest.approx(factors)


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_factors_stay_in_their_bounds_and_never_rise(schedule: LrSchedule) -> None:
    factors = [lr_factor(schedule, 0, step, STEPS) for step in range(STEPS)]
    assert factors[0] == 1 and min(factors) > 0
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_warmup_rises_in_equal_steps_to_the_schedule_and_then_leaves_it(
    schedule: LrSchedule,
) -> None:
    plain = [lr_factor(schedule, 0, step, STEPS) for step in range(STEPS)]
    warm = [lr_factor(schedule, 50, step, STEPS) for step in range(STEPS)]
    ratios = [w / p for w, p in zip(warm, plain, strict=True)]
    assert ratios[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert ratios[49:] == pytest.approx([1] * (STEPS - 49))


def test_the_first_step_of_a_warmup_moves() -> None:
    assert lr_factor("constant", 10, 0, STEPS) == 0.1
    assert lr_factor("constant", 1, 0, STEPS) == 1
