"""Phrases become rows once each; none of a sentence that is held out does, however it is spelled there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.tables.phrases import Phrases, choose_phrases, normal_words, runs_of_words
from polytask.data.tables.trees import Treebank, read_trees

TREES = """\
(3 (2 It) (4 (2 is) (4 (3 rather) (4 good))))
(1 (2 (2 the) (2 plot)) (1 (2 is) (1 (3 rather) (0 (2 ,) (0 dull)))))
(2 (2 -LRB-) (2 (2 The) (3 Plot)))
"""


@pytest.fixture
def bank(tmp_path: Path) -> Treebank:
    (tmp_path / "trees.txt").write_text(TREES)
    return read_trees(tmp_path / "trees.txt")


def texts(phrases: Phrases) -> set[str]:
    return {phrase.text for phrase in phrases.chosen}


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("Ca n't  stop", "can't stop"),
        ("do n’t", "don't"),
        ("`` It 's ''", '"It\'s"'),
        ("-LRB- a \\/ b -RRB-", "(a/b)"),
        ("“quoted” — dash", "`` quoted '' -- dash"),
        ("Dr.\u00a0Who …", "dr. who ..."),
    ],
)
def test_spelling_does_not_matter(written: str, same: str) -> None:
    assert normal_words(written) == normal_words(same)


def test_words_are_kept_apart() -> None:
    assert normal_words("a bad film") != normal_words("abad film")
    assert normal_words("not good") != normal_words("good")


def test_every_phrase_comes_once_with_its_label_and_place(bank: Treebank) -> None:
    found = choose_phrases(bank, known=[], held_out=[])
    assert len(found.chosen) == 18  # of 23 nodes: "is", "rather", "the", "the plot" and "plot" come again
    assert (found.short, found.known, found.held_out) == (0, 0, 0)
    by_text = {phrase.text: phrase for phrase in found.chosen}
    assert (by_text["rather good"].label, by_text["rather good"].line, by_text["rather good"].node) == ("4", 1, 5)
    assert len(by_text) == 18


def test_of_several_labels_the_commonest_counts_then_the_first(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("(2 (3 so) (2 (1 SO) (1 so)))\n(2 (3 b) (1 B))\n")
    by_text = {p.text: p.label for p in choose_phrases(read_trees(tmp_path / "t.txt"), known=[], held_out=[]).chosen}
    assert by_text["so"] == "1"
    assert by_text["b"] == "3"


def test_runs_of_words_of_held_out_sentences_stay_out(bank: Treebank) -> None:
    found = choose_phrases(bank, known=[], held_out=["This Is  RATHER, dull."])
    assert {"is", "rather", ",", "dull", ", dull", "rather , dull", "is rather , dull"}.isdisjoint(texts(found))
    assert {"the plot", "rather good", "the plot is rather , dull"} <= texts(found)
    assert found.held_out == 7
    # a word inside another one is no run of words
    assert "It" in texts(choose_phrases(bank, known=[], held_out=["bits"]))


def test_rows_of_train_are_not_added_again_and_short_ones_neither(bank: Treebank) -> None:
    found = choose_phrases(bank, known=["It is rather good", "(The plot"], held_out=["rather good"], min_words=3)
    assert texts(found) == {"is rather good", "the plot is rather , dull", "is rather , dull", "rather , dull"}
    assert (found.known, found.held_out) == (2, 0)
    assert found.short == 18 - 6


sentences = st.lists(st.sampled_from(["good", "bad", "Film", "n't", "do", ",", "``"]), min_size=1, max_size=7)


@given(st.lists(sentences, min_size=1, max_size=4), st.lists(sentences, max_size=3))
def test_runs_of_words_are_those_that_a_plain_search_finds(wanted: list[list[str]], held: list[list[str]]) -> None:
    keys = {normal_words(" ".join(words)) for words in wanted}
    texts = [normal_words(" ".join(words)) for words in held]
    plain = {key for key in keys if any(key == text[at : at + len(key)] for text in texts for at in range(len(text)))}
    assert runs_of_words([" ".join(words) for words in held], keys) == plain
