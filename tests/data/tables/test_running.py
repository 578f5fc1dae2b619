"""Running text as a table: sentences, and each with the one that follows it in its document."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.data.tables.running import sentences
from polytask.data.tables.sources import header, read_table
from polytask.errors import TableError

TEXT = """\ufeffIt rained. Nobody minded!

The second document begins. "Why?" asked 3.5 people. (Nobody knew.) And
so it went on.
   \t
Alone
"""


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_sentences_with_their_lines(corpus: str) -> None:
    assert header(corpus) == ["sentence", "next"]
    table = read_table(corpus, ["sentence"])
    assert table.columns["sentence"] == [
        "It rained.",
        "Nobody minded!",
        "The second document begins.",
        '"Why?" asked 3.5 people.',
        "(Nobody knew.)",
        "And",
        "so it went on.",
        "Alone",
    ]
    assert list(table.places) == [1, 1, 3, 3, 3, 3, 4, 6]
    assert not table.broken


def test_neighbours_never_come_from_two_documents(corpus: str) -> None:
    table = read_table(corpus, ["sentence", "next"])
    assert list(zip(table.columns["sentence"], table.columns["next"], strict=True)) == [
        ("It rained.", "Nobody minded!"),
        ("The second document begins.", '"Why?" asked 3.5 people.'),
        ('"Why?" asked 3.5 people.', "(Nobody knew.)"),
        ("(Nobody knew.)", "And"),
        ("And", "so it went on."),
    ]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("One. Two? Three! 4 is last.", ["One.", "Two?", "Three!", "4 is last."]),
        ("version 2.0 is out, e.g. here", ["version 2.0 is out, e.g. here"]),
        ("He said “Go.” Ünder it went.", ["He said “Go.”", "Ünder it went."]),
        ("Wait... what? Yes", ["Wait... what?", "Yes"]),
        ("  ", []),
    ],
)
def test_where_a_sentence_ends(line: str, wanted: list[str]) -> None:
    assert sentences(line) == wanted


def test_what_is_no_column_of_running_text(corpus: str) -> None:
    with pytest.raises(TableError, match=r"has no column 'sentences'\. Did you mean 'sentence'\?"):
        read_table(corpus, ["sentences"])
