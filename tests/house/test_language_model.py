"""Our masked language model against ``transformers.BertForMaskedLM``: logits, loss, and every gradient.

Shapes: N texts, P tokens in all, K masked tokens of each text, D width, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polytask.data.masking import NO_LABEL
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import WordEmbedding
from polytask.encoder.bert import Bert, load_bert
from polytask.encoder.foreign.checkpoint import by_foreign_name, load_language_head
from polytask.encoder.foreign.namings.base import namings
from polytask.errors import CheckpointError
from polytask.evaluation.predicting import predict
from polytask.evaluation.scoring import score
from polytask.metrics.base import metrics
from polytask.model import Model
from polytask.packing import PackedBatch, RowBatch
from polytask.tasks.kinds.base import kinds
from polytask.training.optim import Adam, Block, Rule

SHARED = Path(__file__).parents[3] / "shared" / "models" / "bert-base-uncased"
V, D, LENGTHS, K = 60, 32, (6, 6, 9, 12), 2


def saved(folder: Path, **changes: Any) -> Any:
    """Save a small random BertForMaskedLM, nothing in it at its starting value, and return it."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 4}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(**sizes, **rates, intermediate_size=64, max_position_embeddings=32, **changes)
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def ours(folder: Path) -> Model:
    encoder = load_bert(folder)
    head, stored = kinds.create("mlm", {}).own_head(encoder, None, None), load_language_head(folder)
    assert head is not None
    assert stored is not None
    head.head.load_state_dict(stored)
    return Model({"shared": encoder}, {"words": head}, {"words": "shared"})


def foreign(module: nn.Module) -> dict[str, Tensor]:
    """Return an encoder's parameters under BERT's own names."""
    return by_foreign_name(namings.create("bert"), dict(module.named_parameters()))


def batch() -> tuple[RowBatch, Tensor, Tensor]:
    """Return a batch with K masked tokens in each text, and as transformers wants it: padded ids, labels elsewhere -100."""
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(1, V, (length,), generator=generator) for length in LENGTHS]
    places = [torch.randperm(length, generator=generator)[:K] for length in LENGTHS]
    labels_NK = torch.stack([torch.randperm(V, generator=generator)[:K] for _ in LENGTHS])
    ids_NL = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
    labels_NL = torch.full_like(ids_NL, NO_LABEL)
    for row, (text, chosen) in enumerate(zip(texts, places, strict=True)):
        ids_NL[row, : len(text)] = text
        labels_NL[row, chosen] = labels_NK[row]
    stream = PackedBatch.pack([text.numpy() for text in texts])
    starts = stream.bounds()[:-1].long()
    asked_NK = torch.stack([start + chosen for start, chosen in zip(starts, places, strict=True)])
    stream = PackedBatch(stream.ids_P, stream.types_P, stream.positions_P, stream.lengths, stream.runs, None, asked_NK)
    return RowBatch((stream,), labels_NK, (0, 1, 2, 3)), ids_NL, labels_NL


def their_gradients(model: Any, ids_NL: Tensor, labels_NL: Tensor) -> dict[str, Tensor]:
    torch.autograd.backward(model(input_ids=ids_NL, attention_mask=(ids_NL > 0).long(), labels=labels_NL).loss)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def our_gradients(model: Model, rows: RowBatch, *, flat: bool) -> dict[str, Tensor]:
    """Return each parameter's gradient by its foreign name, by plain autograd or through the step's flat buffers."""
    encoder, head = model.encoder("words"), model.head("words")
    assert isinstance(encoder, Bert)
    parts = ((encoder, foreign), (head, lambda module: dict(module.named_parameters())))
    blocks = [
        Block(module, "", list(module.named_parameters()), shadowed=set(), dtype=torch.float32, rule=rule, adam=Adam())
        for module, _ in parts
    ]
    buffers = [torch.zeros(block.numbers) for block in blocks]
    if flat:
        for block, buffer in zip(blocks, buffers, strict=True):
            block.point(buffer)
    assert rows.labels_N is not None
    loss_N = kinds.create("mlm", {}).loss(model("words", rows), rows.labels_N)
    torch.autograd.backward(loss_N.mean())
    if flat:
        assert encoder.embeddings.word.weight.grad is None  # nothing as large as the table is allocated
        for block, buffer in zip(blocks, buffers, strict=True):
            for slot in block.masters.slots:
                slot.parameter.grad = slot.of(buffer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    theirs = {"dense": "transform.dense", "norm": "transform.LayerNorm"}
    heads = {name.removeprefix("head."): parameter for name, parameter in head.named_parameters()}
    found = {f"bert.{name}": tensor for name, tensor in foreign(encoder).items()}
    for name, parameter in heads.items():
        module, _, kind = name.rpartition(".")
        found[f"cls.predictions.{theirs[module]}.{kind}" if module else f"cls.predictions.{kind}"] = parameter
    return found


def rule(name: str, parameter: Tensor) -> Rule:
    return Rule(1e-3, 0.0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_logits_and_loss_are_theirs(tmp_path: Path, activation: str) -> None:
    theirs = saved(tmp_path, hidden_act=activation)
    rows, ids_NL, labels_NL = batch()
    with torch.no_grad():
        output = theirs(input_ids=ids_NL, attention_mask=(ids_NL > 0).long(), labels=labels_NL)
        logits_NKV = ours(tmp_path)("words", rows)
    assert logits_NKV.shape == (len(LENGTHS), K, V)
    assert rows.labels_N is not None
    for row in range(len(LENGTHS)):
        for place in range(K):
            where = int((labels_NL[row] == rows.labels_N[row, place]).nonzero()[0])
            torch.testing.assert_close(logits_NKV[row, place], output.logits[row, where], atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(kinds.create("mlm", {}).loss(logits_NKV, rows.labels_N).mean(), output.loss)


@pytest.mark.parametrize("flat", [False, True])
def test_gradients_are_theirs_those_of_the_tied_table_included(tmp_path: Path, flat: bool) -> None:
    theirs = saved(tmp_path)
    rows, ids_NL, labels_NL = batch()
    wanted, found = their_gradients(theirs, ids_NL, labels_NL), our_gradients(ours(tmp_path), rows, flat=flat)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-3)
    untouched = torch.ones(V, dtype=torch.bool)
    untouched[rows.streams[0].ids_P] = False
    assert found["bert.embeddings.word_embeddings.weight"][untouched].any()  # words that are only decoded learn, too


def test_decoding_is_the_sum_of_two_untied_copies() -> None:
    torch.manual_seed(0)
    words, ids_P, factor_PV = WordEmbedding(V, D), torch.randint(V, (9,)), torch.randn(9, V)
    words.gradient_VD = torch.ones(V, D)
    torch.autograd.backward((words.decode(words(ids_P).tanh()) * factor_PV).sum())
    into, out = (words.weight.detach().clone().requires_grad_() for _ in range(2))
    torch.autograd.backward((F.linear(F.embedding(ids_P, into).tanh(), out) * factor_PV).sum())
    assert into.grad is not None
    assert out.grad is not None
    torch.testing.assert_close(words.gradient_VD, 1 + into.grad + out.grad)
    assert words.weight.grad is None


def test_a_frozen_table_still_passes_gradients_on() -> None:
    words, vectors_MD = WordEmbedding(V, D), torch.randn(3, D, requires_grad=True)
    words.weight.requires_grad_(False)
    words.gradient_VD = torch.zeros(V, D)
    torch.autograd.backward(words.decode(vectors_MD)[:, 7].sum())
    assert vectors_MD.grad is not None
    torch.testing.assert_close(vectors_MD.grad, words.weight[7].expand(3, D))
    assert not words.gradient_VD.any()


def test_a_checkpoint_without_the_head_says_none_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    save_file({name: tensor for name, tensor in whole.items() if not name.startswith("cls.")}, file)
    assert load_language_head(tmp_path) is None
    save_file({name: tensor for name, tensor in whole.items() if name != "cls.predictions.bias"}, file)
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'cls\.predictions\.bias'"):
        load_language_head(tmp_path)
    table = whole["bert.embeddings.word_embeddings.weight"]
    save_file({**whole, "cls.predictions.decoder.weight": table.clone()}, file)
    assert load_language_head(tmp_path) is not None
    save_file({**whole, "cls.predictions.decoder.weight": table + 1}, file)
    with pytest.raises(CheckpointError, match="is not tied to the word table"):
        load_language_head(tmp_path)


def test_what_is_kept_of_logits_is_enough_for_perplexity_and_accuracy(tmp_path: Path) -> None:
    saved(tmp_path)
    rows, _, _ = batch()
    model, kind = ours(tmp_path), kinds.create("mlm", {})
    assert rows.labels_N is not None
    rows.labels_N[2, 1] = NO_LABEL
    with torch.no_grad():
        logits_NKV = model("words", rows)
    logits_NKV[0, 0, rows.labels_N[0, 0]] = 50.0
    kept_N3 = kind.condense(logits_NKV, rows.labels_N)
    asked = rows.labels_N != NO_LABEL
    surprise = F.cross_entropy(logits_NKV[asked], rows.labels_N[asked])
    right = (logits_NKV[asked].argmax(1) == rows.labels_N[asked]).double().mean()
    predictions = predict(kind, kept_N3, ["a", "b", "c", "d"], torch.zeros(4))
    found = score(predictions, {name: metrics.create(name) for name in kind.metrics}).values
    assert predictions.loss_N == pytest.approx(kind.loss(logits_NKV, rows.labels_N).numpy(), rel=1e-6)
    assert found == pytest.approx({"accuracy": float(right), "perplexity": float(surprise.exp())}, rel=1e-5)
    alone = float(F.cross_entropy(logits_NKV[2, :1], rows.labels_N[2, :1]).exp())
    assert kind.decode(kept_N3).values[2] == pytest.approx(alone, rel=1e-5)
    assert kind.loss(logits_NKV, rows.labels_N)[2].exp().item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.slow
def test_berts_own_head_fills_the_masks() -> None:
    """bert-base-uncased with its head knows what the capital of France is."""
    if not SHARED.is_dir():
        pytest.skip("bert-base-uncased is not here")
    tokenizer, model = Tokenizer.from_folder(SHARED), ours(SHARED).eval()
    ids, _ = tokenizer.join(tokenizer.encode(["the capital of france is [MASK] ."]), 64)
    stream = PackedBatch.pack([ids])
    place = stream.ids_P.tolist().index(tokenizer.mask)
    stream = PackedBatch(
        stream.ids_P, stream.types_P, stream.positions_P, stream.lengths, stream.runs, None, torch.tensor([[place]])
    )
    with torch.no_grad():
        logits_11V = model("words", RowBatch((stream,), None, (0,)))
    assert tokenizer.core.id_to_token(int(logits_11V[0, 0].argmax())) == "paris"
