from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from polytask.errors import TableError
from polytask.starter.survey import Choices, pair_up, survey, task_name
from polytask.tasks.kinds.base import canonical

Write: TypeAlias = Callable[..., Path]

WORDS = ["the", "cat", "sat", "on", "a", "warm", "mat", "while", "rain", "fell", "over", "every", "quiet", "roof"]


def sentence(number: int, length: int = 8) -> str:
    """Return a text that no other number gives."""
    return " ".join([*(WORDS[(number * 5 + at * 3) % len(WORDS)] for at in range(length)), f"n{number}"])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def table(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        return tmp_path / name

    return table


def labelled(write: Write, labels: Sequence[object], column: str = "label", rows: int = 20) -> Path:
    return write("toy.csv", ["text", column], [[sentence(n), labels[n % len(labels)]] for n in range(rows)])


@pytest.mark.parametrize("labels", [("0", "1"), ("0.0", "1.0"), ("false", "true"), ("No", "Yes")])
def test_two_values_that_say_yes_and_no_are_binary(write: Write, labels: Sequence[str]) -> None:
    found = survey(labelled(write, labels))
    assert (found.kind, list(found.labels), found.range) == (
        "binary",
        [canonical(label) for label in sorted(labels)],
        None,
    )


def test_other_pairs_of_values_are_classes(write: Write) -> None:
    found = survey(labelled(write, ["neg", "pos"]))
    assert (found.kind, found.labels, found.notes) == ("classification", {"neg": 10, "pos": 10}, [])
    assert survey(labelled(write, [1, 2])).kind == "classification"


def test_small_whole_numbers_are_classes_and_the_note_offers_ordinal(write: Write) -> None:
    found = survey(labelled(write, [4, 0, 2, 1, 3], "sentiment"))
    assert (found.kind, list(found.labels)) == ("classification", ["0", "1", "2", "3", "4"])
    assert "ordinal" in found.notes[0]


def test_numbers_with_decimals_are_a_regression_over_whole_numbers_around_them(write: Write) -> None:
    found = survey(labelled(write, [0.2, 1.0, 4.6, 3.3], "similarity"))
    assert (found.kind, found.labels, found.range) == ("regression", {}, (0.0, 5.0))
    assert "range" in found.notes[0]


def test_many_whole_numbers_under_a_telling_name_are_a_regression(write: Write) -> None:
    found = survey(labelled(write, list(range(0, 100, 7)), "score", 200))
    assert (found.kind, found.range) == ("regression", (0.0, 98.0))
    assert survey(labelled(write, list(range(300)), "score", 300)).kind == "regression"


def test_many_whole_numbers_under_another_name_are_no_label(write: Write) -> None:
    with pytest.raises(TableError, match="looks like a label"):
        survey(labelled(write, list(range(100)), "page", 100))


@pytest.mark.parametrize(
    "names",
    [("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("text_a", "text_b")],
)
def test_two_texts_with_related_names_are_a_pair_in_the_tables_order(write: Write, names: Sequence[str]) -> None:
    rows = [[sentence(n, 5), sentence(n + 50, 9), n % 2] for n in range(20)]
    found = survey(write("toy.csv", [*names, "label"], rows))
    assert found.text == list(names)


def test_two_texts_of_equal_length_are_a_pair_whatever_their_names(write: Write) -> None:
    rows = [[sentence(n), sentence(n + 50), n % 2] for n in range(20)]
    assert survey(write("toy.csv", ["claim", "evidence", "label"], rows)).text == ["claim", "evidence"]


def test_a_title_beside_a_long_text_is_not_a_pair(write: Write) -> None:
    rows = [[sentence(n, 3), sentence(n, 60), n % 2] for n in range(20)]
    assert survey(write("toy.csv", ["title", "body", "label"], rows)).text == ["body"]


def test_a_column_of_few_words_that_repeat_is_no_text(write: Write) -> None:
    rows = [["web" if n % 3 else "paper", sentence(n), n % 2] for n in range(20)]
    found = survey(write("toy.csv", ["origin", "text", "label"], rows))
    assert (found.text, found.label) == (["text"], "label")


def test_texts_that_repeat_are_still_texts(write: Write) -> None:
    rows = [[word, label] for word, label in [("fine", 1), ("bad", 0)] * 5]
    found = survey(write("toy.csv", ["text", "label"], rows))
    assert (found.text, found.label) == (["text"], "label")


def test_a_telling_name_beats_the_last_column(write: Write) -> None:
    rows = [[n % 3, sentence(n), "ab"[n % 2]] for n in range(20)]
    assert survey(write("toy.csv", ["label", "text", "annotator"], rows)).label == "label"
    assert survey(write("toy.csv", ["first", "text", "second"], rows)).label == "second"


def test_an_id_is_unique_short_and_called_so(write: Write) -> None:
    rows = [[n, f"a{n}", n // 2, sentence(n), n % 2] for n in range(20)]
    assert survey(write("toy.csv", ["", "id", "qid1", "text", "label"], rows)).id == "id"
    assert survey(write("toy.csv", ["", "x", "qid1", "text", "label"], rows)).id == "column 1"
    assert survey(write("toy.csv", ["x", "y1", "qid1", "text", "label"], rows)).id is None


def test_rows_that_are_broken_or_have_no_label_are_counted(write: Write) -> None:
    rows: list[list[object]] = [[sentence(n), n % 2] for n in range(20)]
    found = survey(write("toy.csv", ["text", "label"], [*rows, ["one field"], [sentence(99), ""]]))
    assert (found.rows, found.problems) == (21, 2)


def test_a_table_without_label_says_what_it_saw_and_what_to_write(write: Write) -> None:
    path = write("reviews-train.csv", ["id", "text"], [[n, sentence(n)] for n in range(9)])
    with pytest.raises(TableError) as caught:
        survey(path)
    assert str(caught.value) == (
        f"{path}: none of the columns 'id' and 'text' looks like a label: a label has at least two and only few "
        'distinct values, or is a number with decimals. Name them by hand: [tasks.reviews] with text = "…" '
        'and label = "…".'
    )


def test_one_class_only_is_no_label(write: Write) -> None:
    with pytest.raises(TableError, match="at least two"):
        survey(labelled(write, ["1"]))


def test_a_table_without_text_says_so(write: Write) -> None:
    path = write("toy.csv", ["id", "size", "label"], [[n, n * 100, n % 2] for n in range(9)])
    with pytest.raises(TableError, match="'id', 'size' and 'label' looks like a text: a text is neither a number"):
        survey(path)


def test_a_table_of_broken_rows_names_the_first(write: Write) -> None:
    path = write("toy.csv", ["text", "label"], [["a"], ["b"]])
    with pytest.raises(TableError, match=r"not one of its rows can be read\. The first: line 2: 1 field where"):
        survey(path)


def test_a_header_alone_says_so(write: Write) -> None:
    with pytest.raises(TableError, match="has a header but no rows"):
        survey(write("toy.csv", ["text", "label"], []))


def test_words_that_look_like_numbers_are_not_numbers(write: Write) -> None:
    assert survey(labelled(write, ["nan", "inf", "1_0"])).labels == {"1_0": 6, "inf": 7, "nan": 7}


def test_a_word_for_nothing_in_few_rows_is_no_label_and_where_many_say_it_it_is(write: Write) -> None:
    found = survey(labelled(write, ["good", "bad"] * 30 + ["nan"], rows=61))
    assert (found.labels, found.layout.missing, found.problems) == ({"bad": 30, "good": 30}, ("nan",), 1)
    assert "'nan' in 'label' counts as no label" in found.notes[0]
    found = survey(labelled(write, ["None", "racism", "sexism"]))
    assert (list(found.labels), found.layout.missing) == (["racism", "sexism", "None"], ())
    found = survey(labelled(write, [0.2, 1.5, "NA", 3.1], "similarity"))
    assert (found.kind, found.layout.missing, found.problems) == ("regression", ("NA",), 5)


def test_codes_are_classes(write: Write) -> None:
    assert survey(labelled(write, ["01", "02", "10"])).labels == {"01": 7, "02": 7, "10": 6}
    codes = [str(number) for number in range(100, 117)]
    found = survey(labelled(write, codes, "label", 170))
    assert (found.kind, len(found.labels)) == ("classification", 17)


def test_a_comma_before_decimals_is_a_score(write: Write) -> None:
    found = survey(labelled(write, ["0,5", "4,27", "3", "1,0"], "score"))
    assert (found.kind, found.layout.decimal) == ("regression", ",")


@pytest.mark.parametrize(
    "cells", [["a;b", "a", "b", "none"], ["['a', 'b']", "['a']", "[]", "['b']"], ["a,b", "a", "b,a", "b"]]
)
def test_cells_that_list_labels_are_multilabel(write: Write, cells: list[str]) -> None:
    assert survey(labelled(write, cells, "moods")).kind == "multilabel"


def test_several_columns_of_0_and_1_are_one_multilabel_task(write: Write) -> None:
    rows = [[n, sentence(n), n % 2, int(n % 3 == 0), int(n % 5 == 0)] for n in range(30)]
    found = survey(write("toy.csv", ["id", "text", "anger", "fear", "joy"], rows))
    assert (found.kind, found.label) == ("multilabel", ["anger", "fear", "joy"])
    assert found.labels == {"anger": 15, "fear": 10, "joy": 6}


def test_other_labels_are_named(write: Write) -> None:
    rows = [[sentence(n), n % 3, f"name of {n % 3}"] for n in range(30)]
    found = survey(write("toy.csv", ["text", "label", "label_desc"], rows))
    assert found.label == "label"
    assert "'label_desc' could be it, too" in found.notes[-1]


def test_a_person_can_say_otherwise(write: Write) -> None:
    rows = [[sentence(n), sentence(n + 50), n % 3, "ab"[n % 2]] for n in range(30)]
    path = write("toy.csv", ["text1", "text2", "label", "other"], rows)
    found = survey(path, Choices(("text1",), ("other",), "binary"))
    assert (found.text, found.label, found.kind) == (["text1"], "other", "binary")
    with pytest.raises(TableError, match=r"has no column 'lable'\. Did you mean 'label'"):
        survey(path, Choices(label=("lable",)))
    with pytest.raises(TableError, match=r"'ordnal' is not one of the kinds\. Did you mean 'ordinal'"):
        survey(path, Choices(kind="ordnal"))


def test_blank_texts_are_counted(write: Write) -> None:
    rows = [[sentence(n) if n % 10 else " ", n % 2] for n in range(20)]
    assert survey(write("toy.csv", ["text", "label"], rows)).problems == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/ids-sst-train.csv", "sst"),
        ("quora-dev.csv", "quora"),
        ("My Reviews.train.jsonl", "my_reviews"),
        ("train.csv", "task"),
        ("ids-sst-test-student.csv", "sst"),
        ("train-set-of-cats.csv", "train-set-of-cats"),
        ("hub:SetFit/sst5:train", "sst5"),
        ("日本.csv", "task"),
    ],
)
def test_a_task_is_called_after_its_table(path: str, name: str) -> None:
    assert task_name(path) == name


@pytest.mark.parametrize("split", ["dev", "val", "valid", "validation", "DEV"])
def test_train_and_dev_become_one_task(split: str) -> None:
    assert pair_up([f"a/x-{split}.csv", Path("a/x-train.csv")]) == ([("a/x-train.csv", f"a/x-{split}.csv")], [])


def test_tables_of_other_stems_folders_or_without_split_stand_alone() -> None:
    pairs, notes = pair_up(["a/x-train.csv", "b/x-dev.csv", "y.csv"])
    assert pairs == [("a/x-train.csv", None), ("b/x-dev.csv", None), ("y.csv", None)]
    assert notes == []


def test_two_tables_for_one_place_are_refused() -> None:
    with pytest.raises(TableError, match=r"x-dev\.csv and x-val\.csv would both be the dev table"):
        pair_up(["x-dev.csv", "x-val.csv"])


def test_a_test_table_is_left_out_with_a_note(write: Write) -> None:
    train = write("x-train.csv", ["", "text", "label"], [[1, "a b", 0]])
    bare = write("x-test-student.csv", ["0", "text"], [[1, "a b"]])
    assert pair_up([bare, train]) == (
        [(str(train), None)],
        [f"{bare} is left out: it is a test table without the column 'label'; 'polytask predict' takes it."],
    )


def test_a_test_table_with_labels_is_left_out_too(write: Write) -> None:
    train = write("x-train.csv", ["text", "label"], [["a b", 0]])
    test = write("x-test.csv", ["text", "label"], [["a b", 0]])
    notes = [f"{test} is left out: it is a test table; 'polytask evaluate' takes it."]
    assert pair_up([train, test]) == ([(str(train), None)], notes)
    assert pair_up([test]) == ([], notes)
