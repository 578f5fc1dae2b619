"""Columns that need not fit into memory hold what was put into them, in memory and in a file alike."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.tables import cells as module
from polytask.data.tables.cells import Cells, Texts, repeats
from polytask.errors import TableError

some_cells = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1))


@pytest.fixture(params=[1, 2**24], ids=["in a file", "in memory"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "IN_MEMORY", request.param)
    monkeypatch.setattr(module, "_BUFFER", 7)
    return int(request.param)


@pytest.mark.usefixtures("where")
@given(given=some_cells)
def test_cells_are_those_that_were_appended(given: list[str | None]) -> None:
    cells = Cells(given)
    assert cells == given
    assert list(cells) == given
    assert len(cells) == len(given)
    assert [cells[row] for row in range(-len(given), len(given))] == given * 2
    assert cells[1:-1] == given[1:-1]
    assert Texts(cells) == [cell or "" for cell in given]


@pytest.mark.usefixtures("where")
def test_cells_may_be_read_and_appended_in_turns() -> None:
    cells = Cells(["one"])
    for n in range(20):
        assert cells[0] == "one"
        cells.append(str(n))
        assert cells[n + 1] == str(n)


@pytest.mark.usefixtures("where")
def test_texts_are_taken_in_any_order() -> None:
    texts = Texts(Cells(["a", None, "c", "d"]))
    assert texts.take([3, 0, 0, 1]) == ["d", "a", "a", ""]
    assert texts.take(np.array([2, 3])).take([1]) == ["d"]
    assert texts.take([]) == []
    with pytest.raises(IndexError):
        texts[4]


def test_cells_are_no_text() -> None:
    assert Cells(["a"]) != "a"
    assert Cells(["a"]) != 1
    assert Cells(["a"]) != ["a", "b"]
    assert repr(Cells(["a"])) == "Cells(['a'], 1 rows)"


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None])))
def test_repeats_are_those_that_a_dict_finds(given: list[str | None]) -> None:
    first: dict[str, int] = {}
    wanted = {}
    for row, cell in enumerate(given):
        if cell is not None and first.setdefault(cell, row) != row:
            wanted[row] = first[cell]
    assert repeats(Cells(given)) == wanted


def test_equal_hashes_are_no_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash", lambda cell: 7, raising=False)
    assert repeats(Cells(["a", "b", "a"])) == {2: 0}


def test_what_is_in_a_file_leaves_no_file_behind(where: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    cells = Cells(["text" * 10] * 10)
    assert cells[9] == "text" * 10
    assert (set(os.listdir("/proc/self/fd")) != before) == (where == 1)
    del cells
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cells = Cells(["a"])
    monkeypatch.setattr(cells._file, "write", full)
    with pytest.raises(TableError, match=r"temporary files: No space left on device\. TMPDIR names another"):
        cells.text(0)
