"""Scores against scikit-learn and scipy, and what is decided where they are undefined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from polytask.metrics.classes import accuracy, calibration_error, f1_of_each, macro_f1, quadratic_kappa
from polytask.metrics.labels import micro_f1
from polytask.metrics.numbers import mae, mse, pearson, spearman

CLASSES = 5
sizes = st.integers(2, 40)


def codes(size: int) -> st.SearchStrategy[NDArray[np.int64]]:
    return hnp.arrays(np.int64, size, elements=st.integers(0, CLASSES - 1))


def scores(size: int) -> st.SearchStrategy[NDArray[np.float64]]:
    return hnp.arrays(np.float64, size, elements=st.integers(-50, 50).map(lambda n: n / 8))


def tables(size: int) -> st.SearchStrategy[NDArray[np.bool_]]:
    return hnp.arrays(np.bool_, (size, 3))


def twice(kind: Callable[[int], st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Return predictions and truth of the same size."""
    return sizes.flatmap(lambda size: st.tuples(kind(size), kind(size)))


@given(twice(codes))
def test_accuracy_and_macro_f1_are_scikit_learns(both: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    predicted, true = both
    assert accuracy(predicted, true) == pytest.approx(sk.accuracy_score(true, predicted))
    assert macro_f1(predicted, true) == pytest.approx(sk.f1_score(true, predicted, average="macro"))


@given(twice(tables))
def test_f1_of_tables_is_scikit_learns(both: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    predicted, true = both
    theirs = sk.f1_score(true, predicted, average=None, zero_division=0.0)
    np.testing.assert_allclose(f1_of_each(predicted, true), theirs)
    assert micro_f1(predicted, true) == pytest.approx(sk.f1_score(true, predicted, average="micro", zero_division=0.0))


@given(twice(scores))
def test_correlations_and_errors_are_scipys(both: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    predicted, true = both
    assert mse(predicted, true) == pytest.approx(sk.mean_squared_error(true, predicted))
    assert mae(predicted, true) == pytest.approx(sk.mean_absolute_error(true, predicted))
    assume(np.ptp(predicted) > 0)
    assume(np.ptp(true) > 0)
    assert pearson(predicted, true) == pytest.approx(stats.pearsonr(predicted, true)[0], abs=1e-12)
    assert spearman(predicted, true) == pytest.approx(stats.spearmanr(predicted, true)[0], abs=1e-12)


@given(twice(codes))
def test_quadratic_kappa_is_cohens_with_quadratic_weights(both: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    predicted, true = both
    assume(len(np.unique(np.concatenate(both))) > 1)
    theirs = sk.cohen_kappa_score(true, predicted, weights="quadratic", labels=list(range(CLASSES)))
    assert quadratic_kappa(predicted, true, CLASSES) == pytest.approx(theirs, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 20))
def test_calibration_error_is_that_of_a_loop_over_the_bins(seed: int, classes: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities, true = generator.dirichlet(np.ones(classes), 50), generator.integers(0, classes, 50)
    wanted = 0.0
    for number in range(bins):
        inside = [p for p in range(50) if number / bins <= max(probabilities[p]) < (number + 1) / bins]
        if inside:
            right = sum(int(np.argmax(probabilities[p])) == true[p] for p in inside) / len(inside)
            sure = sum(float(max(probabilities[p])) for p in inside) / len(inside)
            wanted += len(inside) / 50 * abs(right - sure)
    assert calibration_error(probabilities, true, bins) == pytest.approx(wanted)


def test_calibration_error_by_hand() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert calibration_error(certain, [0, 0, 1, 1]) == 0.0
    assert calibration_error(certain, [0, 1, 1, 0]) == 0.5
    assert calibration_error([[0.8, 0.2]] * 5, [0, 0, 0, 0, 1]) == pytest.approx(0.0)


@pytest.mark.parametrize("score", [pearson, spearman])
def test_correlation_with_a_constant_is_zero_without_a_warning(score: Callable[..., float]) -> None:
    varied = [1.0, 2.0, 4.0]
    for constant in (0.0, 0.1, 3.3e8):
        assert score([constant] * 3, varied) == 0.0
        assert score(varied, [constant] * 3) == 0.0
    assert score([1.0], [2.0]) == 0.0


@pytest.mark.parametrize("code", range(CLASSES))
def test_kappa_of_one_class_alone_is_zero(code: int) -> None:
    assert quadratic_kappa([code] * 4, [code] * 4, CLASSES) == 0.0


def test_a_label_that_neither_is_nor_was_predicted_has_an_f1_of_zero() -> None:
    assert f1_of_each([[0, 1], [0, 1]], [[0, 1], [0, 0]]).tolist() == [0.0, pytest.approx(2 / 3)]


@given(twice(scores))
def test_correlations_do_not_mind_which_side_is_which_or_the_unit(
    both: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    a, b = both
    for score in (pearson, spearman):
        assert score(a, b) == pytest.approx(score(b, a), abs=1e-12)
        assert score(3 * a + 1, b) == pytest.approx(score(a, b), abs=1e-9)
        assert score(-a, b) == pytest.approx(-score(a, b), abs=1e-12)
        assert -1 - 1e-12 <= score(a, b) <= 1 + 1e-12


def test_perfect_predictions_get_the_best_of_every_score() -> None:
    true = np.array([0, 1, 2, 2, 4])
    assert accuracy(true, true) == 1.0
    assert macro_f1(true, true) == 1.0
    assert quadratic_kappa(true, true, CLASSES) == 1.0
    assert math.isclose(pearson(true, true), 1.0)
    assert math.isclose(spearman(true, true), 1.0)
    assert mse(true, true) == mae(true, true) == 0.0
