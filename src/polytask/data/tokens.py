"""Texts -> token ids: once, in parallel, kept by content, memory-mapped.

A text is kept without special tokens; a row's input is put together from its texts when it is packed, so that one
cached column serves every pair mode and every ``max_length``.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Core
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer

from polytask.errors import CheckpointError, RunFolderError
from polytask.runtime.files import disk_errors, sweep, written_aside

Ids = NDArray[np.int32]

_CHUNK = 20_000
_MOST_WORDS = 100_000_000
_CHUNK_CHARACTERS = 2**22
"""Rows and characters that are tokenised at a time: the library takes some hundred bytes for a token while it does."""

_FOOTER = struct.Struct("<16sQQL")
_MAGIC = b"polytask tokens1"
_BLOCK = 2**20


class Tokenizer:
    """A tokenizer without padding or truncation, and the special tokens that it puts around one text or two."""

    def __init__(self, core: Core) -> None:
        core.no_padding()
        core.no_truncation()
        self.core = core
        if self.vocabulary > _MOST_WORDS:
            raise CheckpointError(f"gives a word the id {self.vocabulary - 1}; wanted ids below {_MOST_WORDS:,}.")
        self.json: str = core.to_str()
        self._single = _template(core, pair=False)
        self._pair = _template(core, pair=True)
        if (len(self._single), len(self._pair)) != (2, 3):
            raise CheckpointError("does not keep the words of a text together, and two texts apart.")

    @classmethod
    def from_json(cls, text: str, name: str = "This") -> Tokenizer:
        """Return the tokenizer that a ``tokenizer.json`` holds; ``name`` is the file that an error names."""
        try:
            return cls(Core.from_str(text))
        except CheckpointError as error:
            raise CheckpointError(f"{name} {error}") from error
        except BaseException as error:  # tokenizers raises plain Exception, and its panics are no Exceptions at all
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise CheckpointError(f"{name} is not a tokenizer.json: {_first_line(error)}.") from error

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Return the tokenizer of a checkpoint folder: its tokenizer.json, or else its WordPiece vocab.txt."""
        if (folder / "tokenizer.json").is_file():
            return cls.from_file(folder / "tokenizer.json")
        vocabulary = folder / "vocab.txt"
        if not vocabulary.is_file():
            raise CheckpointError(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt.")
        lower_cased = _lower_cased(folder)
        try:
            return cls(BertWordPieceTokenizer(str(vocabulary), lowercase=lower_cased)._tokenizer)
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"{vocabulary} is not a vocabulary of BERT: {_first_line(error)}.") from error

    @classmethod
    def from_file(cls, file: Path) -> Tokenizer:
        """Return the tokenizer in a ``tokenizer.json``."""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} cannot be read as text: {error}.") from error
        return cls.from_json(text, str(file))

    @classmethod
    def from_texts(cls, texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """Return a tokenizer that knows the ``vocabulary`` most frequent words of ``texts``, lower-cased."""
        core = Core(WordLevel(unk_token="[UNK]"))
        core.normalizer = BertNormalizer()
        core.pre_tokenizer = BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        core.train_from_iterator(
            texts, WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
        )
        core.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, special.index(token)) for token in ("[CLS]", "[SEP]")],
        )
        return cls(core)

    @property
    def vocabulary(self) -> int:
        """Number of token ids: they run from 0 to one below it."""
        return max(self.core.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def mask(self) -> int | None:
        """The id that stands for a masked token; None when there is none."""
        found = [self.core.token_to_id(name) for name in ("[MASK]", "<mask>")]
        return next((token for token in found if token is not None), None)

    def ordinary(self) -> Ids:
        """Return the ids that are no special tokens: of words and pieces, in their order."""
        special = {token for token, added in self.core.get_added_tokens_decoder().items() if added.special}
        framing = {int(token) for part in (*self._single, *self._pair) for token in part}
        return np.asarray(sorted(set(range(self.vocabulary)) - special - framing - {self.mask}), dtype=np.int32)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return each text's token ids, without special tokens."""
        encodings = self.core.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def capacity(self, pair: bool, max_length: int) -> int:
        """Return how many of ``max_length`` tokens are left for the texts themselves."""
        return max_length - sum(len(part) for part in (self._pair if pair else self._single))

    def join(self, texts: Sequence[Ids], max_length: int, *, types: bool = True) -> tuple[Ids, Ids]:
        """Return ids and token types of one text, or two in one input, with special tokens.

        What is too long is cut at the end: of a pair the longer text first, token by token.
        """
        parts = self._pair if len(texts) == 2 else self._single
        kept = keep_lengths([len(text) for text in texts], self.capacity(len(texts) == 2, max_length))
        pieces = [parts[0]]
        for text, length, after in zip(texts, kept, parts[1:], strict=True):
            pieces += [text[:length], after]
        second = len(pieces[-1]) + len(pieces[-2]) if len(texts) == 2 and types else 0
        ids = np.concatenate(pieces)
        kinds = np.zeros(len(ids), dtype=np.int32)
        kinds[len(ids) - second :] = 1
        return ids, kinds


def keep_lengths(lengths: Sequence[int], room: int) -> list[int]:
    """Return how much of each text fits ``room`` tokens when the longest is cut first (of equal ones, the second)."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    first, second = lengths
    share = room // 2
    kept_second = min(second, max(share, room - first))
    return [room - kept_second, kept_second]


class TokenColumn:
    """The token ids of one text column; a row's are a view of a memory-mapped array."""

    def __init__(self, ids: Ids, bounds: NDArray[np.int64]) -> None:
        self._ids = ids
        self._bounds = bounds
        self.lengths = np.diff(bounds)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ids:
        return self._ids[self._bounds[row] : self._bounds[row + 1]]

    def take(self, rows: Iterable[int]) -> TokenColumn:
        """Return some of the rows as a column of their own."""
        kept = [self[row] for row in rows]
        bounds = np.cumsum([0, *(len(ids) for ids in kept)], dtype=np.int64)
        return TokenColumn(np.concatenate([np.zeros(0, np.int32), *kept]), bounds)

    def pieces(self, most: int) -> tuple[TokenColumn, NDArray[np.int64]]:
        """Return every text in as few pieces of at most ``most`` tokens as it takes, all nearly equally long.

        Beside them the row that each piece is of. No token is lost, and none is copied.
        """
        counts = np.maximum(-(-self.lengths // most), 1)
        owners = np.repeat(np.arange(len(self)), counts)
        numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = self._bounds[owners] + numbers * self.lengths[owners] // counts[owners]
        return TokenColumn(self._ids, np.append(starts, self._bounds[-1])), owners


def tokenize(texts: Sequence[str], tokenizer: Tokenizer, cache: Path | None = None) -> TokenColumn:
    """Return the token ids of a column. With ``cache``, they are looked up there by content first, and kept there.

    What lies there is checked; what is cut off or altered is written anew. Any number of processes may do so at once.
    """
    if cache is None:
        chunks = [np.zeros(0, np.int32)]
        bounds = _bounds(_put(chunks, ids) for ids in _encoded(tokenizer, texts))
        return TokenColumn(np.concatenate(chunks), bounds)
    place = cache / "tokens" / f"{_content_key(texts, tokenizer)}.tokens"
    column = _kept(place)
    if column is None:
        _keep(_encoded(tokenizer, texts), place)
        column = _kept(place)
    if column is None:
        raise RunFolderError(f"{place} is not what was written there a moment ago: is its disk in order?")
    return column


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Ids]:
    """Yield each text's token ids, a chunk of texts being tokenised in parallel."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if len(chunk) >= _CHUNK or size >= _CHUNK_CHARACTERS:
            yield from tokenizer.encode(chunk)
            chunk, size = [], 0
    yield from tokenizer.encode(chunk)


def _put(chunks: list[Ids], ids: Ids) -> int:
    chunks.append(ids)
    return len(ids)


def _bounds(lengths: Iterable[int]) -> NDArray[np.int64]:
    counts = np.fromiter(lengths, dtype=np.int64)
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _keep(encoded: Iterable[Ids], place: Path) -> None:
    """Write a column as it comes: the ids of all rows, the bounds between them, counts and checksum at the end."""
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    with written_aside(place) as aside, aside.open("wb", buffering=_BLOCK) as file:
        bounds = _bounds(file.write(ids.tobytes()) // ids.itemsize for ids in encoded)
        file.write(bounds.tobytes())
        file.flush()
        with aside.open("rb") as written:
            footer = _FOOTER.pack(_MAGIC, len(bounds) - 1, int(bounds[-1]), _checksum(written, file.tell()))
        file.write(footer)


def _kept(place: Path) -> TokenColumn | None:
    """Return the column that lies at a place, memory-mapped; None when there is none, or it is not as it was written."""
    try:
        with place.open("rb") as file:
            size = file.seek(0, 2) - _FOOTER.size
            file.seek(max(size, 0))
            magic, rows, tokens, checksum = _FOOTER.unpack(file.read())
            file.seek(0)
            if magic != _MAGIC or size != 4 * tokens + 8 * (rows + 1) or checksum != _checksum(file, size):
                return None
            file.seek(4 * tokens)
            bounds = np.fromfile(file, dtype=np.int64, count=rows + 1)
            ids = np.memmap(file, dtype=np.int32, mode="r", shape=(tokens,)) if tokens else np.zeros(0, np.int32)
            return TokenColumn(ids, bounds)
    except (FileNotFoundError, NotADirectoryError, struct.error):
        return None
    except OSError as error:
        raise RunFolderError(f"{place} cannot be read: {error.strerror or error}.") from error


def _checksum(file: IO[bytes], size: int) -> int:
    value = 0
    while size > 0 and (block := file.read(min(_BLOCK, size))):
        value = zlib.crc32(block, value)
        size -= len(block)
    return value


def _content_key(texts: Sequence[str], tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(tokenizer.json.encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def _lower_cased(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'tokenizer_config.json'} is not readable as JSON: {error}.") from error
    return bool(settings.get("do_lower_case", True)) if isinstance(settings, dict) else True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _template(core: Core, *, pair: bool) -> list[Ids]:
    # Where the tokenizer's own post-processor puts special tokens is read off two marked words.
    encoding: Any = core.encode("a", "a") if pair else core.encode("a")
    parts: list[list[int]] = [[]]
    last = None
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            parts[-1].append(token)
        elif sequence != last:
            parts.append([])
            last = sequence
    return [np.asarray(part, dtype=np.int32) for part in parts]
