"""What every augmentation promises, and each change of EDA by a property of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.augment.base import Augmentation, augmentations
from polytask.errors import RecipeError, TableError

TEXT = "the film is a rather good and very funny story of two old friends who meet again"
WORDS = tuple(TEXT.split())
MARKS = set(".;?:!,")
sentences = st.lists(st.text("abcdé'", min_size=1, max_size=6), min_size=1, max_size=30)
ONLY = {"swap": 0.0, "delete": 0.0, "replace": 0.0, "insert": 0.0}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=augmentations.names())
def augmentation(request: pytest.FixtureRequest) -> Augmentation:
    return augmentations.create(request.param)


@pytest.fixture
def thesaurus(tmp_path: Path) -> str:
    path = tmp_path / "synonyms.tsv"
    path.write_text("Good\tfine\tquite nice\n\nfunny\tamusing\n")
    return str(path)


def only(option: str, share: float, **options: Any) -> Augmentation:
    return augmentations.create("eda", **{**ONLY, option: share, **options})


def test_members_differ_pairwise() -> None:
    made = {name: augmentations.create(name).variant(WORDS, generator()) for name in augmentations.names()}
    for a, b in combinations(made, 2):
        assert made[a] != made[b]


def test_the_same_generator_makes_the_same_copy_and_another_another(augmentation: Augmentation) -> None:
    assert augmentation.variant(WORDS, generator(1)) == augmentation.variant(WORDS, generator(1))
    assert len({tuple(augmentation.variant(WORDS, generator(seed))) for seed in range(20)}) > 5


def test_the_words_that_are_handed_in_stay_as_they_are(augmentation: Augmentation) -> None:
    words = list(WORDS)
    for seed in range(10):
        augmentation.variant(words, generator(seed))
    assert words == list(WORDS)


@pytest.mark.parametrize("name", augmentations.names())
@given(words=sentences, seed=st.integers(0, 999))
def test_no_copy_is_empty(name: str, words: list[str], seed: int) -> None:
    variant = augmentations.create(name).variant(words, generator(seed))
    assert variant
    assert all(variant)


@pytest.mark.parametrize("name", augmentations.names())
def test_copies_are_at_least_one(name: str) -> None:
    with pytest.raises(RecipeError, match="copies is 0"):
        augmentations.create(name, copies=0)


@given(sentences, st.integers(0, 999))
def test_aeda_puts_marks_between_and_keeps_the_words(words: list[str], seed: int) -> None:
    variant = augmentations.create("aeda").variant(words, generator(seed))
    assert [word for word in variant if word not in MARKS] == words
    assert 1 <= len(variant) - len(words) <= max(len(words) // 3, 1)


@given(sentences, st.integers(0, 999), st.sampled_from([0.1, 0.5]))
def test_swapping_keeps_the_words(words: list[str], seed: int, share: float) -> None:
    variant = only("swap", share).variant(words, generator(seed))
    assert Counter(variant) == Counter(words)
    moved = sum(a != b for a, b in zip(words, variant, strict=True))
    assert moved <= 2 * max(int(share * len(words)), 1)


@given(sentences, st.integers(0, 999), st.sampled_from([0.1, 0.9, 1.0]))
def test_deleting_keeps_the_order_of_what_is_left(words: list[str], seed: int, share: float) -> None:
    left = iter(words)
    assert all(word in left for word in only("delete", share).variant(words, generator(seed)))


def test_one_word_stays_when_all_are_deleted() -> None:
    left = [only("delete", 1.0).variant(WORDS, generator(seed)) for seed in range(30)]
    assert all(len(words) == 1 for words in left)
    assert len({words[0] for words in left}) > 5


def test_each_word_is_deleted_with_the_probability_asked_for() -> None:
    eda = only("delete", 0.2)
    kept = np.mean([len(eda.variant(WORDS, generator(seed))) for seed in range(2000)]) / len(WORDS)
    assert kept == pytest.approx(0.8, abs=5 * np.sqrt(0.16 / (2000 * len(WORDS))))


def test_synonyms_replace_words_that_have_some(thesaurus: str) -> None:
    found = {" ".join(only("replace", 0.1, synonyms=thesaurus).variant(WORDS, generator(seed))) for seed in range(60)}
    assert found == {
        " ".join(WORDS).replace(word, new)
        for word, new in (("good", "fine"), ("good", "quite nice"), ("funny", "amusing"))
    }
    both = only("replace", 0.2, synonyms=thesaurus).variant(WORDS, generator())
    assert "good" not in both
    assert "funny" not in both


def test_a_synonym_takes_on_the_punctuation_and_the_capital_of_its_word(tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("good\tfine\nbest\tvery finest\nu.s.\tamerican\n")
    eda = only("replace", 1.0, synonyms=str(tmp_path / "s.tsv"))
    changed = eda.variant(['"Good"', "film,", "(best)!", "u.s.", "Best.", "_good_"], generator())
    assert " ".join(changed) == '"Fine" film, (very finest)! american Very finest. _fine_'


def test_a_synonym_that_is_inserted_brings_no_punctuation(tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("good\tfine\n")
    eda = only("insert", 0.1, synonyms=str(tmp_path / "s.tsv"))
    assert Counter(eda.variant(["(Good)", "film"], generator())) == Counter(["(Good)", "film", "fine"])


def test_synonyms_are_inserted_anywhere(thesaurus: str) -> None:
    eda = only("insert", 0.1, synonyms=thesaurus)
    places = set()
    for seed in range(200):
        variant = eda.variant(WORDS, generator(seed))
        at = next(place for place, word in enumerate([*WORDS, ""]) if variant[place] != word)
        more = len(variant) - len(WORDS)
        assert " ".join(variant[at : at + more]) in ("fine", "quite nice", "amusing")
        assert variant[:at] + variant[at + more :] == list(WORDS)
        places.add(at)
    assert {0, len(WORDS)} <= places


def test_a_text_without_known_words_is_left_as_it_is(thesaurus: str) -> None:
    for option in ("replace", "insert"):
        assert only(option, 0.5, synonyms=thesaurus).variant(["odd", "words"], generator()) == ["odd", "words"]


def test_one_of_the_changes_is_drawn_for_each_copy(thesaurus: str) -> None:
    eda = augmentations.create("eda", synonyms=thesaurus)
    kinds = Counter(len(eda.variant(WORDS, generator(seed))) - len(WORDS) for seed in range(400))
    assert kinds[0] > 0
    assert min(kinds) < 0 < max(kinds)


@pytest.mark.parametrize("text", ["fine film", "a good film", "good"])
def test_a_change_that_changes_nothing_gives_way_to_one_that_does(text: str, thesaurus: str) -> None:
    eda = augmentations.create("eda", delete=0.01, synonyms=thesaurus)
    assert all(eda.variant(text.split(), generator(seed)) != text.split() for seed in range(200))


def test_where_nothing_can_be_changed_the_text_stays() -> None:
    assert augmentations.create("eda").variant(["word"], generator()) == ["word"]
    assert only("swap", 0.1).variant(["word", "word"], generator()) == ["word", "word"]
    assert {tuple(only("delete", 0.01).variant(["a", "b"], generator(seed))) for seed in range(20)} == {("a",), ("b",)}


def test_the_thesaurus_is_part_of_what_is_noticed(thesaurus: str) -> None:
    made = augmentations.create("eda", synonyms=thesaurus)
    assert made.fingerprints() == {"synonyms": hashlib.sha256(Path(thesaurus).read_bytes()).hexdigest()}
    assert augmentations.create("eda").fingerprints() == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"replace": 0.1}, "'replace' needs synonyms = \"FILE\".*WordNet"),
        ({"insert": 0.1}, "'insert' needs synonyms"),
        ({"swap": 1.5}, "swap is 1.5; it is a share"),
        ({"swap": 0.0, "delete": 0.0}, "nothing would be changed"),
        ({"swop": 0.1}, "takes no option 'swop'. Did you mean 'swap'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        augmentations.create("eda", **options)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"good\tfine\nbad, poor\n", "line 2 is not a word and its synonyms"),
        (b"good\t\n", "line 1"),
        (b"\n", "has no synonyms"),
        (b"caf\xe9\tbar\n", "not UTF-8"),
    ],
)
def test_a_thesaurus_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "s.tsv").write_bytes(content)
    with pytest.raises(TableError, match=told):
        only("replace", 0.1, synonyms=str(tmp_path / "s.tsv")).variant(WORDS, generator())
    with pytest.raises(TableError, match="cannot be read"):
        only("replace", 0.1, synonyms=str(tmp_path / "none.tsv")).variant(WORDS, generator())
