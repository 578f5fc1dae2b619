"""What every kind of task promises, and each kind's numbers against an oracle. Shapes: N rows, C logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polytask.data.masking import NO_LABEL
from polytask.errors import RecipeError
from polytask.evaluation.predicting import predict
from polytask.evaluation.scoring import score
from polytask.metrics.base import metrics
from polytask.tasks.kinds.base import Kind, canonical, kinds
from polytask.tasks.kinds.ordinal import Ordinal

ROWS = 12


@dataclass(frozen=True)
class Example:
    """How a kind is made for the tests, and the cells of a label column that it reads."""

    labels: dict[str, str]
    cells: list[str]
    options: dict[str, Any]


GRADES = {"0": "bad", "1": "fair", "2": "good", "3": "superb"}
EXAMPLES = {
    "classification": Example(GRADES, ["0", "1", "2", "3"], {}),
    "ordinal": Example(GRADES, ["0", "1", "2", "3"], {}),
    "binary": Example({"0": "different", "1": "duplicate"}, ["0", "1"], {}),
    "multilabel": Example({"a": "A", "b": "B", "c": "C"}, ["a", "b;c", "none", " c ; a"], {}),
    "regression": Example({}, ["0", "2.5", "5.0"], {"range": [0.0, 5.0]}),
    "mlm": Example({}, [], {}),
    "ranking": Example({}, [], {}),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ordinal, coral": ("ordinal", {"method": "coral"}),
    "binary, two logits": ("binary", {"logits": 2}),
    "regression, raw": ("regression", {"output": "raw"}),
    "regression, sigmoid": ("regression", {"output": "sigmoid"}),
    "regression, cosine": ("regression", {"output": "cosine"}),
    "regression, shifted cosine": ("regression", {"output": "shifted_cosine"}),
}
for variant, (base, options) in VARIANTS.items():
    EXAMPLES[variant] = replace(EXAMPLES[base], options={**EXAMPLES[base].options, **options})
LABELLED = [name for name in kinds.names() if "label" in kinds.member(name).takes]
WIDTHS = {"mlm": (3, 7), "ranking": (12,)}
"""Shape of a row's logits, where the encoder settles it: three masked tokens of seven words, two vectors of six numbers."""


def scores(kind: Kind, logits_NC: Tensor, labels_N: Tensor) -> Mapping[str, float]:
    """Return what logits score by the metrics of their kind."""
    predictions = predict(kind, logits_NC, [str(row) for row in range(len(logits_NC))], labels_N)
    return score(predictions, {name: metrics.create(name) for name in kind.metrics}).values


def shown(kind: Kind, logits_NC: Tensor) -> list[Any]:
    """Return what a person reads of logits."""
    return predict(kind, logits_NC, [""] * len(logits_NC)).shown


def new(name: str, **options: Any) -> Kind:
    example, member = EXAMPLES[name], VARIANTS.get(name, (name, {}))[0]
    return kinds.create(member, example.labels, **{**example.options, **options})


@pytest.fixture(params=[*kinds.names(), *VARIANTS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(name: str) -> Kind:
    assert name in EXAMPLES, "give the new kind an example here"
    return new(name)


def logits(kind: Kind, rows: int = ROWS, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, *width(kind), generator=torch.Generator().manual_seed(seed))


def width(kind: Kind) -> tuple[int, ...]:
    return next((WIDTHS[name] for name in WIDTHS if isinstance(kind, kinds.member(name))), (kind.outputs,))


def labels(kind: Kind, name: str, rows: int = ROWS) -> Tensor:
    if name == "mlm":
        return torch.arange(rows * 3).remainder(7).view(rows, 3)
    if name == "ranking":
        return torch.arange(rows * 2).view(rows, 2)
    cells = EXAMPLES[name].cells
    return kind.collate([kind.encode(cells[row % len(cells)]) for row in range(rows)])


def confident(kind: Kind, name: str, rows: int = ROWS) -> Tensor:
    """Return logits that say the true labels, found by following the loss down."""
    logits_NC = torch.zeros(rows, kind.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([logits_NC], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(kind.loss(logits_NC, labels(kind, name, rows)).sum())
        optimizer.step()
    return logits_NC.detach()


def test_each_row_has_a_loss_of_its_own(kind: Kind, name: str) -> None:
    loss_N = kind.loss(logits(kind), labels(kind, name))
    assert loss_N.shape == (ROWS,)
    assert loss_N.dtype is torch.float32
    assert loss_N.isfinite().all()
    assert (loss_N >= 0).all()
    if not kind.in_batch:
        torch.testing.assert_close(kind.loss(logits(kind)[3:4], labels(kind, name)[3:4]), loss_N[3:4])


def test_a_loss_of_extreme_logits_is_finite(kind: Kind, name: str) -> None:
    for sign in (-1.0, 1.0):
        assert kind.loss(sign * 1e4 * torch.ones(ROWS, *width(kind)), labels(kind, name)).isfinite().all()


def test_the_loss_sends_a_gradient_to_every_row(kind: Kind, name: str) -> None:
    logits_NC = logits(kind).requires_grad_()
    torch.autograd.backward(kind.loss(logits_NC, labels(kind, name)).sum())
    assert logits_NC.grad is not None
    assert logits_NC.grad.isfinite().all()
    assert logits_NC.grad.flatten(1).abs().sum(1).all()


@pytest.mark.parametrize("name", LABELLED)
def test_following_the_loss_leads_to_the_right_predictions_and_the_best_scores(kind: Kind, name: str) -> None:
    logits_NC, labels_N = confident(kind, name), labels(kind, name)
    assert kind.loss(logits_NC, labels_N).mean() < 0.05
    assert scores(kind, logits_NC, labels_N)[kind.metrics[0]] == pytest.approx(1.0, abs=1e-3)
    cells = EXAMPLES[name].cells
    special: dict[str, list[Any]] = {
        "multilabel": [["A"], ["B", "C"], [], ["A", "C"]],
        "regression": [pytest.approx(score, abs=0.1) for score in (0.0, 2.5, 5.0)],
    }
    wanted = special.get(VARIANTS.get(name, (name, {}))[0], [EXAMPLES[name].labels.get(cell) for cell in cells])
    assert shown(kind, logits_NC)[: len(cells)] == wanted


def test_divergence_is_zero_exactly_between_equals(kind: Kind) -> None:
    a_NC, b_NC = logits(kind, seed=1), logits(kind, seed=2)
    assert kind.divergence(a_NC, b_NC).shape == (ROWS,)
    assert not kind.divergence(a_NC, a_NC.clone()).any()
    assert (kind.divergence(a_NC, b_NC) > 0).all()


def test_divergence_of_a_language_model_is_the_mean_over_what_is_asked() -> None:
    kind, a_NKV, b_NKV = new("mlm"), torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    labels_NK = torch.tensor([[4, NO_LABEL, 1], [0, NO_LABEL, NO_LABEL]])
    p_NKV, q_NKV = a_NKV.softmax(2), b_NKV.softmax(2)
    each_NK = ((p_NKV - q_NKV) * (p_NKV / q_NKV).log()).sum(2)
    wanted_N = torch.stack([(each_NK[0, 0] + each_NK[0, 2]) / 2, each_NK[1, 0]])
    torch.testing.assert_close(kind.divergence(a_NKV, b_NKV, labels_NK), wanted_N)
    a_NKV[1, 1:] += 5.0 * torch.randn(2, 7)  # a filler's words say nothing
    torch.testing.assert_close(kind.divergence(a_NKV, b_NKV, labels_NK), wanted_N)


def test_divergence_is_symmetric(kind: Kind) -> None:
    a_NC, b_NC = logits(kind, seed=1), logits(kind, seed=2)
    torch.testing.assert_close(kind.divergence(a_NC, b_NC), kind.divergence(b_NC, a_NC))


def test_divergence_grows_with_the_noise_and_survives_tiny_noise(kind: Kind) -> None:
    clean_NC, noise_NC = logits(kind), logits(kind, seed=3)
    found = [kind.divergence(clean_NC, clean_NC + size * noise_NC).sum().item() for size in (1e-4, 1e-3, 1e-2, 0.1, 1)]
    assert found == sorted(found)
    assert found[0] > 0
    assert found[1] / found[0] == pytest.approx(100, rel=0.1)
    exact = kind.divergence(clean_NC.double(), clean_NC.double() + 1e-3 * noise_NC.double()).sum().item()
    assert found[1] == pytest.approx(exact, rel=0.01)


def test_divergence_has_a_gradient_at_noise(kind: Kind) -> None:
    noise_NC = (1e-3 * logits(kind, seed=3)).requires_grad_()
    torch.autograd.backward(kind.divergence(logits(kind), logits(kind) + noise_NC).sum())
    assert noise_NC.grad is not None
    assert noise_NC.grad.flatten(1).abs().sum(1).all()


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("rows", [1, ROWS])
def test_decoding_gives_one_value_for_each_row(kind: Kind, rows: int) -> None:
    decoded = kind.decode(logits(kind, rows))
    assert len(shown(kind, logits(kind, rows))) == rows
    if decoded.probabilities_NC is None:
        assert not kind.has_labels
        return
    assert decoded.probabilities_NC.shape == (rows, len(kind.names))
    assert ((decoded.probabilities_NC >= 0) & (decoded.probabilities_NC <= 1)).all()


@pytest.mark.parametrize("name", LABELLED)
def test_predictions_show_names_rather_than_spellings(kind: Kind) -> None:
    for value in shown(kind, logits(kind, 40)):
        assert isinstance(value, float) or set([value] if isinstance(value, str) else value) <= set(kind.names)


@pytest.mark.parametrize("name", ["classification", "ordinal", "ordinal, coral", "binary", "binary, two logits"])
def test_probabilities_sum_to_one_and_the_largest_is_predicted(name: str) -> None:
    kind = new(name)
    decoded = kind.decode(logits(kind, 40))
    assert decoded.probabilities_NC is not None
    np.testing.assert_allclose(decoded.probabilities_NC.sum(1), 1.0, atol=1e-6)
    assert shown(kind, logits(kind, 40)) == [kind.names[code] for code in decoded.probabilities_NC.argmax(1)]


@pytest.mark.parametrize("name", LABELLED)
def test_scores_are_finite_numbers_by_each_metric_of_the_kind(kind: Kind, name: str) -> None:
    found = scores(kind, logits(kind), labels(kind, name))
    assert tuple(found) == kind.metrics
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", LABELLED)
def test_every_cell_of_the_example_is_read_and_nonsense_is_refused_in_one_line(kind: Kind, name: str) -> None:
    for cell in EXAMPLES[name].cells:
        kind.encode(cell)
        kind.encode(f"  {cell} ")
    for cell in ("nonsense", "99", "nan", "x" * 5000):
        with pytest.raises(ValueError, match=r"is not|is outside") as caught:
            kind.encode(cell)
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)


def test_a_near_miss_is_named() -> None:
    kind = kinds.create("classification", {"entailment": "e", "neutral": "n"})
    with pytest.raises(ValueError, match=r"'entailmnt' is not one of the labels .* Did you mean 'entailment'\?"):
        kind.encode("entailmnt")


@pytest.mark.parametrize("cell", ["1", "1.0", " 1 ", "1.00"])
def test_whole_numbers_are_one_label_however_they_are_spelt(cell: str) -> None:
    for name in ("classification", "ordinal", "binary"):
        assert new(name).encode(cell) == 1


def test_a_label_is_first_taken_as_it_is_spelt() -> None:
    kind = kinds.create("classification", {"1.0": "float", "1": "int"})
    assert (kind.encode("1.0"), kind.encode("1"), kind.encode("1.00")) == (0, 1, 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1.0", "1"),
        (" yes ", "yes"),
        ("1.5", "1.5"),
        ("-0.0", "-0.0"),
        ("01", "01"),
        ("1e2", "1e2"),
        ("True", "true"),
        ("1234567890123456789.0", "1234567890123456789"),
        ("inf", "inf"),
        ("nan", "nan"),
    ],
)
def test_canonical_spelling(text: str, wanted: str) -> None:
    assert canonical(text) == wanted


@given(st.text(max_size=8))
def test_canonical_spelling_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    ("name", "cells", "wanted"),
    [
        ("classification", ["10.0", "9", "b", "10", "a"], ["9", "10", "a", "b"]),
        ("ordinal", ["2", "1", "0.0", "1.0"], ["0", "1", "2"]),
        ("binary", ["yes", "no"], ["no", "yes"]),
        ("binary", ["False", "True"], ["false", "true"]),
        ("binary", ["1.0", "0.0"], ["0", "1"]),
        ("binary", ["spam", "ham"], ["ham", "spam"]),
        ("multilabel", ["b;a", "c", "none", "a"], ["a", "b", "c"]),
    ],
)
def test_labels_are_inferred_in_their_order(name: str, cells: list[str], wanted: list[str]) -> None:
    assert kinds.create(name, {}).infer(cells) == wanted


@pytest.mark.parametrize(
    ("name", "cells", "told"),
    [
        ("classification", ["a", "a"], "has 1 different label"),
        ("classification", [str(n + 0.5) for n in range(1001)], "is it a regression task"),
        ("binary", ["a", "b", "c"], "has 3 different labels, 'a', 'b' and 'c'; a binary task has two"),
        ("multilabel", ["none", "a"], "has 1 different label"),
    ],
)
def test_labels_that_do_not_fit_the_kind_are_refused(name: str, cells: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kinds.create(name, {}).infer(cells)


@pytest.mark.parametrize("name", ["classification", "ordinal", "binary", "multilabel"])
def test_one_label_leaves_nothing_to_learn(name: str) -> None:
    with pytest.raises(RecipeError, match="there is only the label 'a'; at least two are needed"):
        kinds.create(name, {"a": "a"})


def test_a_binary_task_with_three_labels_is_refused() -> None:
    with pytest.raises(RecipeError, match="there are 3 labels, 'a', 'b' and 'c'; a binary task has two"):
        kinds.create("binary", {"a": "a", "b": "b", "c": "c"})


def test_members_differ_pairwise() -> None:
    found = {}
    for name in EXAMPLES:
        kind = new(name)
        logits_NC = torch.linspace(-1, 1, math.prod(width(kind))).repeat(2, 1) + 0.3
        found[name] = kind.loss(logits_NC.view(2, *width(kind)), labels(kind, name, 2))
    for a, b in combinations(found, 2):
        assert not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


def test_classification_is_torchs_cross_entropy_and_its_divergence_two_kls() -> None:
    kind = new("classification")
    a_NC, b_NC, labels_N = logits(kind), logits(kind, seed=1), labels(kind, "classification")
    wanted_N = torch.stack([-a_NC[row].softmax(0)[labels_N[row]].log() for row in range(ROWS)])
    torch.testing.assert_close(kind.loss(a_NC, labels_N), wanted_N)
    log_p, log_q = a_NC.log_softmax(1), b_NC.log_softmax(1)
    kls_N = (F.kl_div(log_p, log_q.exp(), reduction="none") + F.kl_div(log_q, log_p.exp(), reduction="none")).sum(1)
    torch.testing.assert_close(kind.divergence(a_NC, b_NC), kls_N)


def test_binary_is_torchs_binary_cross_entropy() -> None:
    kind = new("binary")
    logits_NC, labels_N = logits(kind), labels(kind, "binary")
    wanted_N = F.binary_cross_entropy(logits_NC[:, 0].sigmoid(), labels_N.float(), reduction="none")
    torch.testing.assert_close(kind.loss(logits_NC, labels_N), wanted_N)
    both_NC = torch.cat([torch.zeros_like(logits_NC), logits_NC], 1)
    torch.testing.assert_close(kind.loss(logits_NC, labels_N), F.cross_entropy(both_NC, labels_N, reduction="none"))


def test_a_divergence_of_bernoullis_is_that_of_two_classes() -> None:
    binary, classes = new("binary"), kinds.create("classification", {"0": "no", "1": "yes"})
    a_NC, b_NC = logits(binary), logits(binary, seed=1)
    zeros_NC = torch.zeros_like(a_NC)
    wanted_N = classes.divergence(torch.cat([zeros_NC, a_NC], 1), torch.cat([zeros_NC, b_NC], 1))
    torch.testing.assert_close(binary.divergence(a_NC, b_NC), wanted_N)


def test_multilabel_is_the_mean_of_binary_cross_entropies() -> None:
    kind = new("multilabel")
    logits_NC, labels_NC = logits(kind), labels(kind, "multilabel")
    wanted_N = F.binary_cross_entropy(logits_NC.sigmoid(), labels_NC, reduction="none").mean(1)
    torch.testing.assert_close(kind.loss(logits_NC, labels_NC), wanted_N)
    assert kind.encode("c; a") == (1, 0, 1)
    assert new("multilabel", separator="|", none="-").encode("c|b") == (0, 1, 1)
    assert new("multilabel", none="-").encode("-") == (0, 0, 0)


def test_ordinal_is_the_corn_loss_of_a_loop_over_rows_and_thresholds() -> None:
    kind = new("ordinal")
    logits_NC, labels_N = logits(kind).double(), labels(kind, "ordinal")
    for row in range(ROWS):
        wanted = 0.0
        for threshold in range(kind.outputs):
            if labels_N[row] >= threshold:  # the conditional subset S of Shi, Cao & Raschka (2021), eq. 4
                above = torch.sigmoid(logits_NC[row, threshold]).item()
                wanted -= np.log(above if labels_N[row] > threshold else 1 - above)
        assert kind.loss(logits_NC, labels_N)[row].item() == pytest.approx(wanted)


def test_the_ordinal_loss_is_the_negative_log_likelihood_of_its_class_probabilities() -> None:
    kind = new("ordinal")
    assert isinstance(kind, Ordinal)
    logits_NC, labels_N = logits(kind).double(), labels(kind, "ordinal")
    probabilities_NC = kind.class_probabilities(logits_NC)
    torch.testing.assert_close(probabilities_NC.sum(1), torch.ones(ROWS, dtype=torch.float64))
    assert (probabilities_NC >= 0).all()
    wanted_N = -probabilities_NC[torch.arange(ROWS), labels_N].log()
    torch.testing.assert_close(kind.loss(logits_NC, labels_N), wanted_N)


@pytest.mark.parametrize("method", ["corn", "coral"])
def test_the_ordinal_divergence_is_that_of_its_class_probabilities(method: str) -> None:
    kind, classes = new("ordinal", method=method), kinds.create("classification", GRADES)
    assert isinstance(kind, Ordinal)
    a_NC, b_NC = (sorted_logits(kind)[rows].double() for rows in (slice(0, 30), slice(30, 60)))
    wanted_N = classes.divergence(*(kind.class_probabilities(logits_NC).log() for logits_NC in (a_NC, b_NC)))
    torch.testing.assert_close(kind.divergence(a_NC, b_NC), wanted_N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["corn", "coral"])
def test_the_ordinal_divergence_is_finite_where_classes_are_impossible(method: str, dtype: torch.dtype) -> None:
    """Thresholds out of order, equal ones, and logits that a sigmoid cannot tell from certainty."""
    kind = new("ordinal", method=method)
    a_NC = torch.tensor([[1.0, 3.0, -1.0], [2.0, 2.0, 2.0], [90.0, 80.0, 70.0], [-90.0, -90.0, -90.0]]).to(dtype)
    b_NC = torch.tensor([[3.0, 1.0, 2.0], [-2.0, 0.0, 2.0], [-90.0, -95.0, -99.0], [90.0, 90.0, 90.0]]).to(dtype)
    a_NC.requires_grad_()
    found_N = kind.divergence(a_NC, b_NC)
    assert found_N.dtype is torch.float32
    assert found_N.isfinite().all()
    assert (found_N > 0).all()
    assert not kind.divergence(a_NC, a_NC.detach().clone()).any()
    torch.autograd.backward(found_N.sum())
    assert a_NC.grad is not None
    assert a_NC.grad.isfinite().all()


def test_ordinal_probabilities_by_hand() -> None:
    # P(y>0) = ½, P(y>1) = ½ · ¼: classes ½, ½ − ⅛, ⅛
    assert probabilities("corn", [0.0, -np.log(3.0)]) == [pytest.approx(p) for p in (0.5, 0.375, 0.125)]


def probabilities(method: str, logits: list[float]) -> list[float]:
    kind = kinds.create("ordinal", {str(n): str(n) for n in range(len(logits) + 1)}, method=method)
    found = kind.decode(torch.tensor([logits])).probabilities_NC
    assert found is not None
    return [float(probability) for probability in found[0]]


def test_coral_probabilities_by_hand() -> None:
    # P(y>0) = ¾, P(y>1) = ¼: classes ¼, ½, ¼
    assert probabilities("coral", [np.log(3.0), -np.log(3.0)]) == [pytest.approx(p) for p in (0.25, 0.5, 0.25)]
    # P(y>1) = ¾ cannot be more than P(y>0) = ¼
    assert probabilities("coral", [-np.log(3.0), np.log(3.0)]) == [pytest.approx(p) for p in (0.75, 0.0, 0.25)]


def test_coral_is_the_sum_of_its_papers_cross_entropies() -> None:
    kind = new("ordinal, coral")
    logits_NC, labels_N = logits(kind).double(), labels(kind, "ordinal")
    for row in range(ROWS):
        wanted = 0.0  # Cao, Mirjalili & Raschka (2020), eq. 4 with all λ = 1
        for k in range(kind.outputs):
            above = 1 / (1 + np.exp(-logits_NC[row, k].item()))
            y_k = 1 if labels_N[row] > k else 0
            wanted -= np.log(above) * y_k + np.log(1 - above) * (1 - y_k)
        assert kind.loss(logits_NC, labels_N)[row].item() == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["corn", "coral"])
def test_the_median_class_is_the_papers_rank(method: str) -> None:
    kind = new("ordinal", method=method, predict="median")
    for row, value in zip(sorted_logits(kind), shown(kind, sorted_logits(kind)), strict=True):
        above, rank = 1.0, 0  # both papers: q = 1 + Σ_k 1{P(y > r_k) > 0.5}; here ranks begin at 0
        for logit in row.tolist():
            each = 1 / (1 + np.exp(-logit))
            above = above * each if method == "corn" else each
            rank += above > 0.5
        assert value == kind.names[rank]


@pytest.mark.parametrize("method", ["corn", "coral"])
def test_the_median_class_has_half_of_the_probability_on_either_side(method: str) -> None:
    kind = new("ordinal", method=method, predict="median")
    decoded = kind.decode(sorted_logits(kind))
    assert decoded.probabilities_NC is not None
    for code, row in zip(decoded.classes, decoded.probabilities_NC, strict=True):
        assert row[:code].sum() <= 0.5 + 1e-12
        assert row[code + 1 :].sum() <= 0.5 + 1e-12
    assert shown(kind, sorted_logits(kind)) != shown(new("ordinal", method=method), sorted_logits(kind))


def sorted_logits(kind: Kind) -> Tensor:
    """Return logits that fall from threshold to threshold, as CORAL's do."""
    return logits(kind, 60).sort(1, descending=True).values


def test_how_many_numbers_a_head_gives() -> None:
    assert [new(name).head_outputs for name in ("ordinal", "ordinal, coral", "binary, two logits")] == [3, 1, 2]


def test_two_logits_are_a_softmax_of_two_classes() -> None:
    kind, classes = new("binary, two logits"), kinds.create("classification", EXAMPLES["binary"].labels)
    a_NC, b_NC, labels_N = logits(kind), logits(kind, seed=1), labels(kind, "binary")
    torch.testing.assert_close(kind.loss(a_NC, labels_N), F.cross_entropy(a_NC, labels_N, reduction="none"))
    torch.testing.assert_close(kind.divergence(a_NC, b_NC), classes.divergence(a_NC, b_NC))
    mine, theirs = kind.decode(a_NC), classes.decode(a_NC)
    assert mine.classes.tolist() == theirs.classes.tolist()
    assert mine.probabilities_NC is not None
    assert theirs.probabilities_NC is not None
    np.testing.assert_allclose(mine.probabilities_NC, theirs.probabilities_NC, atol=1e-6)
    assert scores(kind, a_NC, labels_N) == pytest.approx(scores(classes, a_NC, labels_N), abs=1e-6)


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("cosine", [-5.0, -2.5, 0.0, 2.5, 5.0]),
        ("shifted_cosine", [0.0, 1.25, 2.5, 3.75, 5.0]),
        ("relu_cosine", [0.0, 0.0, 0.0, 2.5, 5.0]),
    ],
)
def test_scores_from_a_cosine_are_those_of_the_reports(output: str, wanted: list[float]) -> None:
    cosine_N1 = torch.tensor([[-1.0], [-0.5], [0.0], [0.5], [1.0]])
    kind = new("regression", output=output, unit=1.0)
    assert kind.reads == "cosine"
    assert kind.loss(cosine_N1, torch.zeros(5)).tolist() == pytest.approx([score**2 for score in wanted])
    assert shown(kind, cosine_N1) == [max(score, 0.0) for score in wanted]
    other = new("regression", output=output, unit=1.0, range=[1.0, 3.0])
    moved = [1.0 + 0.4 * score for score in wanted]
    assert other.loss(cosine_N1, torch.zeros(5)).tolist() == pytest.approx([score**2 for score in moved])
    assert shown(other, cosine_N1) == pytest.approx([max(score, 1.0) for score in moved])


def test_a_relu_of_the_cosine_learns_nothing_from_opposite_vectors() -> None:
    cosine_N1 = torch.tensor([[-0.5], [0.5]], requires_grad=True)
    kind = new("regression", output="relu_cosine", unit=1.0)
    torch.autograd.backward(kind.loss(cosine_N1, torch.tensor([5.0, 5.0])).sum())
    assert cosine_N1.grad is not None
    assert cosine_N1.grad.tolist() == [[0.0], [-25.0]]


def test_a_unit_of_1_is_the_squared_error_in_points() -> None:
    logits_NC = torch.tensor([[1.0], [9.0]])
    raw = new("regression", output="raw", unit=1.0)
    assert raw.loss(logits_NC, torch.tensor([3.0, 5.0])).tolist() == [4.0, 16.0]
    assert raw.divergence(logits_NC, torch.zeros(2, 1)).tolist() == [1.0, 81.0]
    squashed = new("regression", output="sigmoid", range=[1.0, 3.0], unit=1.0)
    assert squashed.loss(torch.zeros(1, 1), torch.tensor([2.5])).tolist() == [0.25]


def test_standard_scores_are_units_above_a_center() -> None:
    kind = new("regression", unit=0.5, center=2.0)
    logits_NC = torch.tensor([[-1.0], [0.0], [3.0], [99.0]])
    assert shown(kind, logits_NC) == [1.5, 2.0, 3.5, 5.0]
    assert kind.loss(logits_NC, torch.tensor([2.0, 2.0, 2.0, 2.0])).tolist() == [1.0, 0.0, 9.0, 99.0**2]
    assert kind.divergence(logits_NC, logits_NC.flip(0)).tolist() == [100.0**2, 9.0, 9.0, 100.0**2]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_scores_settle_to_a_loss_of_1_whatever_they_measure(scale: float) -> None:
    scores = scale * np.random.default_rng(0).beta(2, 5, 1000)
    span = [0.0, scale]
    settled = new("regression", range=span).settle(scores.tolist())
    assert settled == pytest.approx({"unit": scores.std(), "center": scores.mean()})
    loss_N = new("regression", range=span, **settled).loss(torch.zeros(1000, 1), torch.tensor(scores))
    assert float(loss_N.mean()) == pytest.approx(1.0)
    assert new("regression", range=span, **settled).settle([0.0, scale]) == {}
    assert new("regression", range=span, output="raw").settle([0.0, scale]) == pytest.approx({"unit": scale / 2})


def test_scores_that_are_all_the_same_have_the_unit_of_the_range() -> None:
    unit = np.linspace(0, 5, 100_001).std()
    for same in (4.0, 0.1, 0.7, 3.3):
        for shares in (None, [0.1, 0.2, 0.3]):
            settled = new("regression").settle([same] * 3, shares)
            assert settled == pytest.approx({"unit": unit, "center": same}, abs=1e-4)


def test_scores_settle_as_a_pass_shows_them() -> None:
    codes, shares = [0.0] * 9 + [5.0], [1 / 9] * 9 + [1.0]
    assert new("regression").settle(codes) == pytest.approx({"unit": 1.5, "center": 0.5})
    assert new("regression").settle(codes, shares) == pytest.approx({"unit": 2.5, "center": 2.5})


@pytest.mark.parametrize("output", ["standard", "sigmoid", "cosine", "shifted_cosine", "relu_cosine"])
def test_small_differences_do_not_drown_in_scores_far_from_zero(output: str) -> None:
    kind = new("regression", output=output, range=[1990.0, 2030.0], unit=4.0)
    a_N1 = torch.linspace(0.1, 0.9, 50)[:, None]
    b_N1 = a_N1 + 2.0**-14
    near = new("regression", output=output, range=[0.0, 40.0], unit=4.0)
    assert (kind.divergence(a_N1, b_N1) > 0).all()
    torch.testing.assert_close(kind.divergence(a_N1, b_N1), near.divergence(a_N1, b_N1))
    torch.testing.assert_close(
        kind.divergence(a_N1, b_N1), kind.divergence(a_N1.double(), b_N1.double()).float(), rtol=0.1, atol=0
    )


@pytest.mark.parametrize(("span", "step", "bins"), [(1.0, 0.1, 10), (5.0, 0.2, 25), (5.0, 0.5, 10), (100.0, 1.0, 100)])
def test_scores_on_a_grid_fall_into_one_bin_each(span: float, step: float, bins: int) -> None:
    kind = new("regression", range=[0.0, span])
    grid = kind.collate([kind.encode(f"{step * n:.1f}") for n in range(bins + 1)])
    assert kind.groups(grid, bins).tolist() == [*range(bins), bins - 1]


def test_scores_are_clipped_to_the_range_in_predictions_but_not_in_the_loss() -> None:
    kind = new("regression", output="raw")
    assert shown(kind, torch.tensor([[-3.0], [2.0], [9.0]])) == [0.0, 2.0, 5.0]
    assert scores(kind, torch.tensor([[-3.0], [9.0]]), torch.tensor([0.0, 5.0]))["mse"] == 0.0


@pytest.mark.parametrize("cell", ["5.01", "-0.1", "inf", "nan", "five"])
def test_a_score_outside_the_range_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"is outside the range 0 to 5|is not a number"):
        new("regression").encode(cell)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs the option 'range'"),
        ({"range": [5, 0]}, "first number must be the smaller"),
        ({"range": [0, 5], "output": "tanh"}, "wanted 'standard', 'raw', 'sigmoid'"),
        ({"range": [0, 5], "unit": 0.0}, "unit is 0; it is a number above 0"),
        ({"range": [0, 5], "center": 6.0}, "center is 6; it lies in the range 0 to 5"),
        ({"range": [0, 5], "center": 2.0, "output": "raw"}, "'raw' has none"),
        ({"range": [0]}, "range"),
    ],
)
def test_a_regression_needs_a_range(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        kinds.create("regression", {}, **options)


def test_a_regression_takes_no_labels() -> None:
    with pytest.raises(RecipeError, match="has a range, not labels"):
        kinds.create("regression", {"a": "a", "b": "b"}, range=[0, 1])
