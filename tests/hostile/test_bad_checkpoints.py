"""Checkpoints that are none, cut short, of another shape, or that want to run code: one sentence that names the file.

Each case spoils a checkpoint that trains, and goes through ``train`` and ``train --dry-run``: exit code 2, no
traceback, no run folder, and nothing of what a stranger put into the folder is ever run.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file

from polytask.data.tokens import Tokenizer
from polytask.encoder.bert import Bert, BertShape, save_bert

Tiny = Callable[..., dict[str, Any]]
Polytask = Callable[..., Any]
Spoil = Callable[[Path], object]

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 90868376\n"
HTML = b"<!DOCTYPE html><html><body>404: Not Found</body></html>"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
WEIGHTS, CONFIG, TOKENIZER, PICKLE = "model.safetensors", "config.json", "tokenizer.json", "pytorch_model.bin"
INDEX = "model.safetensors.index.json"
RAN = "it-ran"


class RunsCode:
    """A pickle that makes a file beside itself when somebody unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.file = str(folder / RAN)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.file, "w")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that trains."""
    tokenizer = Tokenizer.from_texts(["a man plays the guitar", "the film is good", "what is this ?"], 40)
    shape = BertShape(vocabulary=tokenizer.vocabulary, width=16, layers=2, heads=2, feed_forward=16, positions=64)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("good") / "bert"
    save_bert(Bert(shape), folder, tokenizer.json)
    return folder


def write(name: str, content: bytes | str) -> Spoil:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, share: float) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return spoil


def config(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        (folder / CONFIG).write_text(json.dumps(stated | changes), encoding="utf-8")

    return spoil


def pickled(make: Callable[[Path, dict[str, Any]], object], zipped: bool = True) -> Spoil:
    """Puts a pickle in the place of the weights; ``make`` gets the folder and the tensors."""

    def spoil(folder: Path) -> None:
        content = make(folder, load_file(folder / WEIGHTS))
        (folder / WEIGHTS).unlink()
        torch.save(content, folder / PICKLE, _use_new_zipfile_serialization=zipped)

    return spoil


def plain_pickle(protocol: int) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / PICKLE).write_bytes(pickle.dumps({"a": RunsCode(folder)}, protocol))

    return spoil


def shards(place: str | None = None, drop: bool = False) -> Spoil:
    """Puts two shards and their index in the place of the weights; ``place`` is what the index says of one tensor."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
        names = sorted(tensors)
        files = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(names)}
        for file in set(files.values()):
            save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
        if drop:
            (folder / "part-1.safetensors").unlink()
        files |= {names[0]: place} if place is not None else {}
        (folder / INDEX).write_text(json.dumps({"weight_map": files}), encoding="utf-8")

    return spoil


def tensor(name: str, value: torch.Tensor | None) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
        save_file(tensors, folder / WEIGHTS)

    return spoil


def gone(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def tokenizer(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        stated = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        (folder / TOKENIZER).write_text(json.dumps(stated | changes), encoding="utf-8")

    return spoil


def words(vocabulary: dict[str, int]) -> Spoil:
    return tokenizer(model={"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}, added_tokens=[])


def loop(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(name)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    return lambda folder: [spoil(folder) for spoil in spoils]


NORM, WORD = "encoder.layer.0.attention.output.LayerNorm.weight", "embeddings.word_embeddings.weight"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    # -- not a checkpoint ----------------------------------------------------------------------------------------------
    "a folder of something else": (gone(CONFIG, WEIGHTS, TOKENIZER, "tokenizer_config.json"), ("it has no config.json",)),
    "no config": (gone(CONFIG), ("bert is not a checkpoint: it has no config.json.",)),
    "no weights": (gone(WEIGHTS), ("holds no weights: there is none of",)),
    "no tokenizer": (gone(TOKENIZER), ("holds no tokenizer: neither tokenizer.json nor vocab.txt.",)),
    "a PDF": (write(WEIGHTS, PDF), (WEIGHTS, "It is a PDF.")),
    "an HTML page": (write(WEIGHTS, HTML), (WEIGHTS, "It is an HTML page")),
    "an LFS pointer": (write(WEIGHTS, LFS), (WEIGHTS, "It is a pointer of Git LFS", "git lfs pull")),
    "an LFS pointer as a pickle": (both(gone(WEIGHTS), write(PICKLE, LFS)), (PICKLE, "It is a pointer of Git LFS")),
    "an HTML page as a pickle": (both(gone(WEIGHTS), write(PICKLE, HTML)), (PICKLE, "It is an HTML page")),
    "an HTML page as config": (write(CONFIG, HTML), (CONFIG, "is not readable as JSON", "It is an HTML page")),
    "an LFS pointer as config": (write(CONFIG, LFS), (CONFIG, "It is a pointer of Git LFS")),
    "a list as config": (write(CONFIG, "[1]"), (CONFIG, "holds a list, not a JSON object")),
    "an empty config": (write(CONFIG, ""), (CONFIG, "is not readable as JSON")),
    "a config of great depth": (write(CONFIG, "[" * 100_000), (CONFIG, "is not readable as JSON")),
    "a config that is no text": (write(CONFIG, b"\xff\xfe{\0}\0"), (CONFIG, "is not readable as JSON")),
    "a folder for weights": (both(gone(WEIGHTS), lambda folder: (folder / WEIGHTS).mkdir()), ("holds no weights",)),
    "a link to itself for weights": (loop(WEIGHTS), ("holds no weights",)),
    "a link to itself for config": (loop(CONFIG), ("it has no config.json",)),
    # -- cut short -----------------------------------------------------------------------------------------------------
    "safetensors of no bytes": (write(WEIGHTS, b""), (WEIGHTS, "cut short")),
    "safetensors cut in the header": (cut(WEIGHTS, 0.01), (WEIGHTS, "cut short")),
    "safetensors cut in half": (cut(WEIGHTS, 0.5), (WEIGHTS, "cut short")),
    "safetensors cut at the end": (cut(WEIGHTS, 0.999), (WEIGHTS, "cut short")),
    "safetensors of a huge header": (write(WEIGHTS, b"\xff" * 8 + b"{}"), (WEIGHTS, "is not a safetensors file")),
    "safetensors of no numbers": (
        write(WEIGHTS, (46).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[NaN],"data":[0]}}'), (WEIGHTS, "not a saf"),
    ),
    "a pickle cut in half": (both(pickled(lambda folder, tensors: tensors), cut(PICKLE, 0.5)), (PICKLE,)),
    "an old pickle cut in half": (both(pickled(lambda folder, tensors: tensors, False), cut(PICKLE, 0.5)), (PICKLE,)),
    "a shard missing": (shards(drop=True), (INDEX, "'part-1.safetensors', which is not there.")),
    "a shard cut": (both(shards(), cut("part-0.safetensors", 0.7)), ("part-0.safetensors is cut short",)),
    "an index without a map": (both(shards(), write(INDEX, "{}")), (INDEX, "has no 'weight_map'")),
    "a tokenizer cut in half": (cut(TOKENIZER, 0.5), (TOKENIZER, "is not a tokenizer.json")),
    # -- out of the folder ---------------------------------------------------------------------------------------------
    "an index that climbs": (shards("../outside.safetensors"), (INDEX, "'../outside.safetensors', which is not a file of")),
    "an index from the root": (shards("/etc/passwd"), (INDEX, "'/etc/passwd', which is not a file of weights beside it")),
    "an index to what is no weights": (shards("config.json"), (INDEX, "which is not a file of weights")),
    # -- of another shape ----------------------------------------------------------------------------------------------
    "GPT-2": (config(model_type="gpt2"), (CONFIG, "'model_type' is 'gpt2'; this reads 'bert'", 'architecture = "auto"')),
    "RoBERTa": (config(model_type="roberta"), (CONFIG, "'model_type' is 'roberta'; this reads 'bert'")),
    "a decoder": (config(is_decoder=True), (CONFIG, "describes a decoder")),
    "other positions": (config(position_embedding_type="relative_key"), (CONFIG, "wanted 'absolute'")),
    "an unknown activation": (config(hidden_act="swiglu"), (CONFIG, "'hidden_act' is 'swiglu'")),
    "wider than its weights": (config(hidden_size=32), (WEIGHTS, "has the shape", "config.json asks for")),
    "more layers than weights": (config(num_hidden_layers=3), (CONFIG, "asks for 3 layers", "it holds 2")),
    "heads that do not divide": (config(num_attention_heads=3), (CONFIG, "cannot be divided among 3 heads")),
    "beyond all layers": (config(num_hidden_layers=10**12), (CONFIG, "asks for 1000000000000 layers")),
    "beyond all widths": (config(hidden_size=10**12), (CONFIG,)),
    "beyond all words": (config(vocab_size=10**12), (WEIGHTS, "has the shape")),
    "beyond all numbers": (config(intermediate_size=10**30), (CONFIG,)),
    "beyond all positions": (config(max_position_embeddings=10**12), (WEIGHTS, "has the shape")),
    "no layers": (config(num_hidden_layers=0), (CONFIG, "'num_hidden_layers' is 0, not a positive whole number")),
    "a width in words": (config(hidden_size="16"), (CONFIG, "'hidden_size' is '16', not a positive whole number")),
    "a tensor missing": (tensor(NORM, None), (f"lacks the tensor '{NORM}'",)),
    "a tensor of another shape": (tensor(NORM, torch.zeros(8)), (WEIGHTS, f"'{NORM}' has the shape (8,)", "(16,)")),
    "a tensor of whole numbers": (tensor(NORM, torch.zeros(16, dtype=torch.int64)), (WEIGHTS, "wanted floats")),
    "a tensor that is no numbers": (tensor(NORM, torch.full((16,), torch.nan)), (WEIGHTS, "not finite")),
    "a tensor without end": (tensor(NORM, torch.full((16,), torch.inf)), (WEIGHTS, "not finite")),
    # -- tokenizers ----------------------------------------------------------------------------------------------------
    "an HTML page as tokenizer": (write(TOKENIZER, HTML), (TOKENIZER, "is not a tokenizer.json")),
    "a tokenizer that is no text": (write(TOKENIZER, b"\xff\xfe"), (TOKENIZER, "cannot be read as text")),
    "an empty tokenizer": (write(TOKENIZER, "{}"), (TOKENIZER, "is not a tokenizer.json")),
    "a tokenizer of great depth": (write(TOKENIZER, "[" * 100_000), (TOKENIZER, "is not a tokenizer.json")),
    "more words than weights": (
        words({word: n for n, word in enumerate([*SPECIAL, *map(str, range(50))])}), ("has 55 words, the weights", "together"),
    ),
    "far fewer words than weights": (words({word: n for n, word in enumerate(SPECIAL)}), ("has 5 words, the weights",)),
    "words beyond all numbers": (
        words({word: n * 10**8 for n, word in enumerate(SPECIAL)}), (TOKENIZER, "gives a word the id 400000000"),
    ),
    "an LFS pointer as vocabulary": (
        both(gone(TOKENIZER), write("vocab.txt", LFS)), ("vocab.txt is not a vocabulary of BERT",),
    ),
    "an empty vocabulary": (both(gone(TOKENIZER), write("vocab.txt", b"")), ("vocab.txt is not a vocabulary of BERT",)),
    "a vocabulary that is no text": (both(gone(TOKENIZER), write("vocab.txt", b"\xff\xfe\n")), ("vocab.txt is not a",)),
    # -- what wants to run code ----------------------------------------------------------------------------------------
    "a pickle that runs code": (
        pickled(lambda folder, tensors: tensors | {"x": RunsCode(folder)}), (PICKLE, "was refused: loading it could run code"),
    ),
    "an old pickle that runs code": (
        pickled(lambda folder, tensors: tensors | {"x": RunsCode(folder)}, False), (PICKLE, "could run code"),
    ),
    "a plain pickle that runs code": (plain_pickle(2), (PICKLE, "could run code")),
    "a new plain pickle that runs code": (plain_pickle(5), (PICKLE, "it is no pickle of tensors")),
    "a pickle of something else": (pickled(lambda folder, tensors: [1, 2]), (PICKLE, "holds no mapping from names to")),
    "a pickle of nothing": (both(gone(WEIGHTS), write(PICKLE, b"")), (PICKLE, "is cut short or is not a checkpoint")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_bad_checkpoint_is_told(polytask: Polytask, tiny: Tiny, good: Path, tmp_path: Path, name: str) -> None:
    spoil, told = CASES[name]
    shutil.copytree(good, tmp_path / "bert")
    spoil(tmp_path / "bert")
    recipe = tiny(only=("sentiment",)) | {"encoder": {"checkpoint": "bert"}}
    (tmp_path / "my.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    started = time.perf_counter()
    for dry in ((), ("--dry-run",)):
        said = polytask("train", tmp_path / "my.toml", "--out", tmp_path / "run", *dry)
        assert (said.code, said.out) == (2, ""), said
        assert said.err.count("\n") == 1
        assert "Traceback" not in said.err
        assert (
            str(tmp_path / "bert") in said.err
            or "checkpoint" in said.err
            or said.err.startswith("error: bert: the tokenizer")
        )
        for part in told:
            assert part in said.err, said.err
    assert time.perf_counter() - started < 10
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.rglob(RAN))


def test_the_checkpoint_that_is_spoilt_would_train(polytask: Polytask, tiny: Tiny, good: Path, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1}, only=("sentiment",)) | {"encoder": {"checkpoint": str(good)}}
    (tmp_path / "my.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    assert polytask("train", tmp_path / "my.toml", "--out", tmp_path / "run").code == 0


def test_the_payload_would_run_if_anybody_let_it(tmp_path: Path) -> None:
    torch.save({"x": RunsCode(tmp_path)}, tmp_path / PICKLE)
    torch.load(tmp_path / PICKLE, weights_only=False)["x"].close()
    assert (tmp_path / RAN).exists()


@pytest.mark.parametrize("name", ["file", "loop", "inside/file"])
def test_a_checkpoint_that_is_no_folder(polytask: Polytask, tiny: Tiny, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(PDF)
    os.symlink("loop", tmp_path / "loop")
    recipe = tiny(only=("sentiment",)) | {"encoder": {"checkpoint": f"./{name}"}}
    (tmp_path / "my.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    said = polytask("train", tmp_path / "my.toml", "--out", tmp_path / "run")
    assert said.code == 2
    assert "the folder that holds config.json" in said.err if name == "file" else "There is no checkpoint" in said.err
    assert not (tmp_path / "run").exists()


# -- encoders of transformers ------------------------------------------------------------------------------------------

AUTO: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "GPT-2": (config(model_type="gpt2", n_layer=1), ("holds a GPT2Model, which reads from left to right only",)),
    "a model of pictures": (config(model_type="vit"), ("holds a ViTModel; wanted an encoder",)),
    "an unknown model": (config(model_type="brt"), ("'model_type' 'brt' is unknown", "is never run. Did you mean 'bert'?")),
    "a model of several": (config(text_config={"model_type": "bert"}), ("'text_config' is a model of its own",)),
    "a model's own code": (
        both(
            config(model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
            write("evil.py", f"open('{RAN}', 'w')"),
        ),
        ("is unknown, and code that comes with a checkpoint is never run",),
    ),
    "beyond all layers": (config(num_hidden_layers=10**12), ("'num_hidden_layers' is 1000000000000; wanted at most",)),
    "beyond all widths": (config(hidden_size=10**9), (CONFIG,)),
    "beyond all words": (config(vocab_size=10**12), (CONFIG, "asks for 16,0", "the checkpoint holds")),
    "a width in words": (config(hidden_size="16"), (CONFIG,)),
    "wider than its weights": (config(hidden_size=20), ("has the shape", "config.json asks for")),
    "a pickle that runs code": (
        pickled(lambda folder, tensors: tensors | {"x": RunsCode(folder)}), (PICKLE, "was refused: loading it could run code"),
    ),
    "an index that climbs": (shards("../outside.safetensors"), (INDEX, "which is not a file of weights beside it")),
    "cut in half": (cut(WEIGHTS, 0.5), (WEIGHTS, "cut short")),
    "an LFS pointer": (write(WEIGHTS, LFS), (WEIGHTS, "It is a pointer of Git LFS")),
    "no tokenizer": (gone(TOKENIZER, "tokenizer_config.json"), ("tokenizer ",)),
    "a tokenizer's own code": (
        both(
            gone(TOKENIZER),
            write("tokenizer_config.json", '{"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["evil.Mine", null]}}'),
            write("evil.py", f"open('{RAN}', 'w')"),
        ),
        ("The tokenizer in",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AUTO)
def test_a_bad_checkpoint_of_any_architecture_is_told(
    polytask: Polytask, tiny: Tiny, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    spoil, told = AUTO[name]
    shutil.copytree(good, tmp_path / "bert")
    spoil(tmp_path / "bert")
    recipe = tiny(only=("sentiment",)) | {"encoder": {"checkpoint": "bert", "architecture": "auto"}}
    (tmp_path / "my.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    said = polytask("train", "my.toml", "--out", "run")
    assert (said.code, said.out) == (2, ""), said
    assert said.err.count("\n") == 1
    for part in told:
        assert part in said.err, said.err
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.rglob(RAN))


@pytest.mark.parametrize(
    "stated",
    [
        {"attn_implementation": "kernels-community/evil"},
        {"_attn_implementation": "evil/kernel"},
        {"_attn_implementation_internal": "evil/kernel"},
        {"transformers_weights": "../outside.safetensors"},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"auto_map": {"AutoModel": "evil/repository--evil.Model"}},
        {"use_kernels": True, "kernel_config": {"a": "evil/kernel"}},
    ],
)
def test_what_a_config_may_not_decide_is_left_out(good: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    from polytask.encoder.auto import build_auto, load_auto

    shutil.copytree(good, tmp_path / "bert")
    config(**stated)(tmp_path / "bert")
    plain, other = load_auto(good), load_auto(tmp_path / "bert")
    assert plain.model.config._attn_implementation == other.model.config._attn_implementation
    assert not {*stated} & {*other.describe()["config"]} - {"attn_implementation"}
    for (name, one), (_, two) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two), name
    described = plain.describe()
    built = build_auto({**described, "config": described["config"] | stated})
    assert type(built.model) is transformers.BertModel
    assert built.model.config._attn_implementation == plain.model.config._attn_implementation
