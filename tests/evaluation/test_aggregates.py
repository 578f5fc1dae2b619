"""What every aggregate promises, and the numbers of each by hand."""

from __future__ import annotations

import pytest

from polytask.evaluation.aggregates.base import Score, aggregates
from polytask.metrics.base import metrics


def score(name: str, value: float) -> Score:
    return Score(metrics.create(name), value)


@pytest.mark.parametrize("name", aggregates.names())
@pytest.mark.parametrize("metric", metrics.names())
def test_a_better_score_makes_a_larger_number(name: str, metric: str) -> None:
    aggregate = aggregates.create(name)
    worse, better = (1.75, 1.25) if metric == "perplexity" else (0.75, 0.25)
    if metrics.member(metric).larger_is_better:
        worse, better = better, worse
    assert aggregate([score(metric, better)]) > aggregate([score(metric, worse)])
    beside = score("accuracy", 0.5)
    assert aggregate([beside, score(metric, better)]) > aggregate([beside, score(metric, worse)])


@pytest.mark.parametrize("name", aggregates.names())
def test_the_order_of_the_tasks_says_nothing(name: str) -> None:
    scores = [score("accuracy", 0.5), score("pearson", 0.25), score("mse", 2.0)]
    assert aggregates.create(name)(scores) == pytest.approx(aggregates.create(name)(scores[::-1]))


def test_the_mean_turns_the_sign_of_what_should_be_small() -> None:
    assert aggregates.create("mean")([score("accuracy", 0.75), score("mse", 0.25)]) == 0.25
    assert aggregates.create("mean")([score("perplexity", 12.5)]) == -12.5


def test_the_courses_puts_everything_between_0_and_1() -> None:
    cs224n = aggregates.create("cs224n")
    for name, value, wanted in [
        ("accuracy", 0.3, 0.3),
        ("pearson", -0.5, 0.25),
        ("spearman", 1.0, 1.0),
        ("calibration_error", 0.1, 0.9),
        ("mse", 3.0, 0.25),
        ("perplexity", 4.0, 0.25),
    ]:
        assert cs224n([score(name, value)]) == pytest.approx(wanted), name
