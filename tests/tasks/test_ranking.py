"""Ranking against the formulas written out pair by pair. Shapes: N pairs, D width of a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from polytask.data.tokens import Tokenizer, tokenize
from polytask.errors import RecipeError
from polytask.evaluation.predicting import predict
from polytask.evaluation.scoring import score
from polytask.metrics.base import metrics
from polytask.tasks.kinds.base import Kind, kinds
from polytask.tasks.kinds.ranking import Ranking

N, D = 7, 5
APART = torch.arange(2 * N).view(N, 2)


def ranking(**options: Any) -> Ranking:
    made = kinds.create("ranking", {}, **options)
    assert isinstance(made, Ranking)
    return made


def vectors(seed: int = 0, rows: int = N) -> Tensor:
    return torch.randn(rows, 2 * D, generator=torch.Generator().manual_seed(seed))


def by_hand(logits_NC: Tensor, labels_N2: Tensor, temperature: float) -> list[float]:
    """Return −log of e^(cos(u_i, v_i)/τ) / Σ_j e^(cos(u_i, v_j)/τ), j over i and the pairs without a text of pair i."""
    found = []
    for i in range(len(logits_NC)):
        terms = {}
        for j in range(len(logits_NC)):
            shared = {*labels_N2[i].tolist()} & {*labels_N2[j].tolist()}
            if i == j or not shared:
                u, v = logits_NC[i, :D].tolist(), logits_NC[j, D:].tolist()
                dot = sum(a * b for a, b in zip(u, v, strict=True))
                terms[j] = math.exp(dot / math.hypot(*u) / math.hypot(*v) / temperature)
        found.append(-math.log(terms[i] / sum(terms.values())))
    return found


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_loss_is_multiple_negatives_ranking(temperature: float) -> None:
    logits_NC = vectors()
    found = ranking(temperature=temperature).loss(logits_NC, APART)
    # as sentence-transformers defines it: scale 1 / τ, cosine, cross-entropy with the diagonal as labels
    u_ND, v_ND = logits_NC[:, :D], logits_NC[:, D:]
    scores_NN = F.cosine_similarity(u_ND[:, None], v_ND[None], dim=2) / temperature
    torch.testing.assert_close(found.mean(), F.cross_entropy(scores_NN, torch.arange(N)))
    torch.testing.assert_close(found, torch.tensor(by_hand(logits_NC, APART, temperature)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_the_loss_is_that_of_sentence_transformers(temperature: float, symmetric: bool) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    sides: Any = ("query_to_doc", "doc_to_query")
    theirs = MultipleNegativesRankingLoss(
        nn.Identity(), scale=1 / temperature, directions=sides[: 1 + symmetric], partition_mode="per_direction"
    )
    logits_NC = vectors().requires_grad_()
    wanted = theirs.compute_loss_from_embeddings([logits_NC[:, :D], logits_NC[:, D:]], torch.arange(N))
    found = ranking(temperature=temperature, symmetric=symmetric).loss(logits_NC, APART).mean()
    torch.testing.assert_close(found, wanted)
    (wanted_NC,), (found_NC,) = (torch.autograd.grad(loss, [logits_NC]) for loss in (wanted, found))
    torch.testing.assert_close(found_NC, wanted_NC)


def scores(kind: Kind, logits_NC: Tensor, labels_N: Tensor) -> Mapping[str, float]:
    """Return what logits score by the metrics of their kind."""
    predictions = predict(kind, logits_NC, [str(row) for row in range(len(logits_NC))], labels_N)
    return score(predictions, {name: metrics.create(name) for name in kind.metrics}).values


def test_the_symmetric_loss_is_the_mean_of_both_directions() -> None:
    logits_NC, labels_N2 = vectors(), torch.tensor([[0, 1], [2, 3], [4, 1], [5, 6], [6, 7], [8, 9], [2, 10]])
    there = by_hand(logits_NC, labels_N2, 0.05)
    back = by_hand(torch.cat([logits_NC[:, D:], logits_NC[:, :D]], dim=1), labels_N2.flip(1), 0.05)
    wanted_N = (torch.tensor(there) + torch.tensor(back)) / 2
    torch.testing.assert_close(ranking(symmetric=True).loss(logits_NC, labels_N2), wanted_N)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=8))
def test_pairs_that_share_a_text_are_no_negatives_of_each_other(labels: list[tuple[int, int]]) -> None:
    logits_NC, labels_N2 = vectors(rows=len(labels)), torch.tensor(labels)
    found_N = ranking(temperature=0.5).loss(logits_NC, labels_N2)
    torch.testing.assert_close(found_N, torch.tensor(by_hand(logits_NC, labels_N2, 0.5)))


def test_a_batch_without_negatives_has_no_loss_and_no_gradient() -> None:
    logits_NC = vectors(rows=3).requires_grad_()
    loss_N = ranking().loss(logits_NC, torch.tensor([[0, 1], [1, 2], [2, 0]]))
    torch.autograd.backward(loss_N.sum())
    assert logits_NC.grad is not None
    assert not loss_N.any()
    assert not logits_NC.grad.any()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_divergence_is_of_the_probabilities_that_the_loss_is_told_from(temperature: float, symmetric: bool) -> None:
    labels_N2 = torch.tensor([[0, 1], [2, 3], [4, 1], [5, 6], [6, 7], [8, 9], [2, 10]])
    a_NC, b_NC = vectors(1), vectors(2)
    wanted_N = apart(a_NC, b_NC, labels_N2, temperature)
    if symmetric:
        turned = [torch.cat([logits_NC[:, D:], logits_NC[:, :D]], dim=1) for logits_NC in (a_NC, b_NC)]
        wanted_N = (wanted_N + apart(turned[0], turned[1], labels_N2, temperature)) / 2
    kind = ranking(temperature=temperature, symmetric=symmetric)
    a_NC.requires_grad_()
    found_N = kind.divergence(a_NC, b_NC, labels_N2)
    torch.testing.assert_close(found_N, wanted_N, rtol=1e-4, atol=1e-5)
    assert not kind.divergence(a_NC, a_NC.detach().clone(), labels_N2).any()
    torch.autograd.backward(found_N.sum())
    assert a_NC.grad is not None
    assert a_NC.grad.isfinite().all()


def apart(a_NC: Tensor, b_NC: Tensor, labels_N2: Tensor, temperature: float) -> Tensor:
    """Return both KL divergences of each row's probabilities added up, over the pairs that share no text with it."""
    found = []
    for i in range(N):
        rivals = [j for j in range(N) if i == j or not {*labels_N2[i].tolist()} & {*labels_N2[j].tolist()}]
        p, q = (
            torch.softmax(F.cosine_similarity(side_NC[i : i + 1, :D], side_NC[rivals, D:]) / temperature, dim=0)
            for side_NC in (a_NC.double(), b_NC.double())
        )
        found.append((p * (p / q).log()).sum() + (q * (q / p).log()).sum())
    return torch.stack(found).float()


def test_labels_are_equal_exactly_for_texts_of_equal_tokens() -> None:
    tokenizer = Tokenizer.from_texts(["a b c d"], vocabulary=50)
    columns = [tokenize(texts, tokenizer) for texts in (["a b", "c", "A  b", "d"], ["c", "a b", "d a", "ad"])]
    numbers = ranking().targets([], columns, tokenizer).labels_N
    assert numbers is not None
    (a, c), (c_again, a_again), (a_third, new), (d, other) = numbers.tolist()
    assert a == a_again == a_third
    assert c == c_again
    assert len({a, c, new, d, other}) == 5


def test_scores_are_the_ranks_among_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_NC, labels_N2 = vectors(3, rows=23), torch.arange(46).view(23, 2)
    labels_N2[4, 1] = labels_N2[9, 1]
    cosines_NN = F.cosine_similarity(logits_NC[:, None, :D], logits_NC[None, :, D:], dim=2)
    ranks = []
    for i in range(23):
        rivals = [j for j in range(23) if j != i and {i, j} != {4, 9}]
        ranks.append(1 + sum(float(cosines_NN[i, j]) >= float(cosines_NN[i, i]) for j in rivals))
    wanted = {"mrr": sum(1 / rank for rank in ranks) / 23, "accuracy": ranks.count(1) / 23}
    assert scores(ranking(), logits_NC, labels_N2) == pytest.approx(wanted)
    monkeypatch.setattr("polytask.tasks.kinds.ranking._ROWS", 5)
    assert scores(ranking(), logits_NC, labels_N2) == pytest.approx(wanted)


def test_equal_vectors_everywhere_rank_last_rather_than_first() -> None:
    assert scores(ranking(), torch.ones(10, 4), torch.arange(20).view(10, 2)) == {"mrr": 0.1, "accuracy": 0.0}


def test_a_prediction_is_the_cosine() -> None:
    logits_NC = torch.tensor([[1.0, 0.0, 3.0, 0.0], [1.0, 0.0, 0.0, 2.0], [1.0, 1.0, -1.0, -1.0]])
    assert ranking().decode(logits_NC).values.tolist() == pytest.approx([1.0, 0.0, -1.0])


def test_what_is_refused() -> None:
    with pytest.raises(RecipeError, match="temperature is 0; it is above 0"):
        ranking(temperature=0.0)
    for name in ("ranking", "mlm"):
        with pytest.raises(RecipeError, match="it learns from texts and takes no labels"):
            kinds.create(name, {"a": "a", "b": "b"})
    with pytest.raises(RecipeError, match="rate is 1; it lies between 0 and 1"):
        kinds.create("mlm", {}, rate=1.0)
