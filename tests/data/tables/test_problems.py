from __future__ import annotations

import pytest

from polytask.data.tables.problems import RowProblem, RowProblems
from polytask.errors import TableError


def test_a_problem_names_line_and_column() -> None:
    assert str(RowProblem(17, "label", "no label")) == "line 17, column 'label': no label"


def test_a_problem_of_a_whole_row_names_no_column() -> None:
    assert str(RowProblem(17, None, "2 fields")) == "line 17: 2 fields"


def test_a_problem_without_lines_names_the_row() -> None:
    assert str(RowProblem(3, "label", "no label", "row")) == "row 3, column 'label': no label"


def test_an_audit_without_problems_settles_under_either_policy() -> None:
    assert RowProblems("a.csv").stop_or_count("stop") == 0
    assert RowProblems("a.csv").stop_or_count("skip") == 0


def test_stop_names_file_count_and_rows_in_order() -> None:
    audit = RowProblems("quora-dev.csv")
    audit.add(14222, "is_duplicate", "no label")
    audit.add_all([RowProblem(2577, None, "4 fields where the header has 5")])
    with pytest.raises(TableError) as caught:
        audit.stop_or_count("stop")
    assert str(caught.value) == (
        'quora-dev.csv: 2 rows are broken or have no usable value (bad_rows = "skip" leaves them out):\n'
        "  line 2577: 4 fields where the header has 5\n"
        "  line 14222, column 'is_duplicate': no label"
    )


def test_stop_shows_ten_problems_and_says_how_many_more() -> None:
    audit = RowProblems("<DataFrame>", "row")
    for place in range(1, 1235):
        audit.add(place, "label", "no label")
    with pytest.raises(TableError) as caught:
        audit.stop_or_count("stop")
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("<DataFrame>: 1,234 rows are broken")
    assert lines[1] == "  row 1, column 'label': no label"
    assert lines[11:] == ["  … and 1224 more"]


def test_a_row_with_two_problems_is_skipped_once() -> None:
    audit = RowProblems("a.csv")
    audit.add(5, "text", "empty")
    audit.add(5, "label", "no label")
    audit.add(6, "label", "no label")
    assert audit.stop_or_count("skip") == 2
    assert audit.places == {5, 6}


def test_one_row_is_told_in_the_singular() -> None:
    audit = RowProblems("a.csv")
    audit.add(5, "text", "empty")
    assert audit.message().startswith("a.csv: 1 row is broken or has no usable value")


def test_of_very_many_problems_the_first_of_the_table_are_shown() -> None:
    audit = RowProblems("a.csv")
    for place in range(5000, 0, -1):
        audit.add(place, "text", "empty")
    lines = audit.message().split("\n")
    assert lines[0].startswith("a.csv: 5,000 rows")
    assert lines[1:11] == [f"  line {n}, column 'text': empty" for n in range(1, 11)]
    assert lines[11:] == ["  … and 4990 more"]


def test_where_rows_cannot_be_left_out_nobody_is_told_to() -> None:
    audit = RowProblems("a.csv")
    audit.add(5, "text", "empty")
    with pytest.raises(TableError) as caught:
        audit.stop_or_count("refuse")
    assert str(caught.value) == "a.csv: 1 row is broken or has no usable value:\n  line 5, column 'text': empty"
