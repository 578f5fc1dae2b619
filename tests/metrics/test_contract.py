"""What every metric promises, whoever registers it; kinds and metrics fit each other. Shapes: N rows, C classes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polytask.errors import RecipeError
from polytask.metrics.base import Metric, Predicted, Truth, metrics
from polytask.tasks.kinds.base import kinds

ROWS = 40
CODES = np.arange(ROWS) % 4
TABLE = np.stack([CODES % 2, CODES // 2, CODES == 1], axis=1).astype(np.int64)
VALUES = np.linspace(0.0, 5.0, ROWS)


def predictions(gives: frozenset[str], wrong: int) -> tuple[Predicted, Truth]:
    """Return predictions of which the last ``wrong`` rows are bad, surely so, and the truth."""
    bad_N = np.arange(ROWS) >= ROWS - wrong
    columns = {
        "rank": np.where(bad_N, 9.0, 1.0),
        "asked": np.full(ROWS, 2.0),
        "right": np.where(bad_N, 0.0, 2.0),
        "surprise": np.where(bad_N, 9.0, 0.5),
    }
    if "classes" in gives:
        codes_N = np.where(bad_N, (CODES + 1) % 4, CODES)
        return Predicted(codes_N, np.eye(4)[codes_N]), CODES
    if "labels" in gives:
        codes_NC = np.where(bad_N[:, None], 1 - TABLE, TABLE)
        return Predicted(codes_NC, codes_NC.astype(np.float64)), TABLE
    if "values" in gives:
        return Predicted(values_N=np.where(bad_N, 2.5 - VALUES, VALUES)), VALUES
    return Predicted(values_N=VALUES, columns={name: columns[name] for name in gives}), np.empty(0)


def pairs() -> list[tuple[str, str]]:
    """Return each metric with each kind that can give it."""
    return [(n, k) for n in metrics.names() for k in kinds.names() if metrics.member(n).fits(kinds.member(k).gives)]


@pytest.mark.parametrize("kind", kinds.names())
def test_a_kind_can_give_the_metrics_that_it_is_scored_by(kind: str) -> None:
    member = kinds.member(kind)
    assert member.metrics
    assert all(metrics.member(name).fits(member.gives) for name in member.metrics)


@pytest.mark.parametrize("name", metrics.names())
def test_some_kind_can_give_it(name: str) -> None:
    assert name in {metric for metric, _ in pairs()}


@pytest.mark.parametrize(("name", "kind"), pairs())
def test_more_mistakes_make_it_worse_in_its_direction_and_within_its_range(name: str, kind: str) -> None:
    metric, gives = metrics.create(name), kinds.member(kind).gives
    few, many = (metric(*predictions(gives, wrong)) for wrong in (4, 24))
    assert metric.gain(few, many) > 0
    assert metric.gain(many, few) < 0
    assert metric.gain(few, few) == 0
    low, high = metric.range
    assert all(isinstance(value, float) and math.isfinite(value) and low <= value <= high for value in (few, many))


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, k in pairs() if n != "perplexity"])
def test_predictions_without_a_mistake_get_its_best(name: str, kind: str) -> None:
    metric = metrics.create(name)
    best = metric.range[1] if metric.larger_is_better else metric.range[0]
    assert metric(*predictions(kinds.member(kind).gives, 0)) == pytest.approx(best)


def test_options_are_checked() -> None:
    with pytest.raises(RecipeError, match="bins is 0; at least 1 is needed"):
        metrics.create("calibration_error", bins=0)
    predicted = Predicted(np.zeros(2, dtype=np.int64), np.array([[0.6, 0.4], [0.9, 0.1]]))
    few, many = (metrics.create("calibration_error", bins=bins) for bins in (1, 15))
    assert few(predicted, np.array([1, 0])) == pytest.approx(0.25)  # |0.5 − 0.75|
    assert many(predicted, np.array([1, 0])) == pytest.approx(0.35)  # (|0 − 0.6| + |1 − 0.9|) / 2


def test_perplexity_is_of_all_words_and_not_the_mean_of_the_texts() -> None:
    columns = {"surprise": np.array([2.0, 0.0]), "asked": np.array([1.0, 3.0])}
    found = metrics.create("perplexity")(Predicted(columns=columns), np.empty(0))
    assert found == pytest.approx(math.exp(0.5))


def test_a_metric_reads_all_of_one_of_its_sets() -> None:
    class Both(Metric):
        reads = (frozenset({"a", "b"}), frozenset({"c"}))

        def __call__(self, predicted: Predicted, truth: Truth) -> float:
            return 0.0

    assert [Both.fits(given) for given in ({"a"}, {"a", "b", "x"}, {"c"}, set[str]())] == [False, True, True, False]
