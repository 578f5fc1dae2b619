"""Rows in other shapes: each text once, pairs with themselves, tables one after the other, nothing that is held out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polytask.data.tables.examples import Examples
from polytask.data.tables.reshape import each_text, joined, twice, without

words = st.text("ab C", min_size=1, max_size=3).filter(str.strip)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=8)
single = st.lists(st.tuples(words), min_size=1, max_size=8)


def table(rows: list[tuple[str, ...]], name: str = "t", labels: bool = True) -> Examples:
    texts = [list(column) for column in zip(*rows, strict=True)]
    ids = [str(row) for row in range(len(rows))]
    return Examples(name, texts, ["x"] * len(rows) if labels else [], ids, [*range(len(rows))], "line", 0, name)


def rows_of(data: Examples) -> list[tuple[str, ...]]:
    assert len(data.ids) == len(data.places) == len(data.texts[0])
    return list(zip(*data.texts, strict=True))


def plain(text: str) -> str:
    return text.strip().lower()


@given(st.one_of(pairs, single))
def test_each_text_comes_once(rows: list[tuple[str, ...]]) -> None:
    found = each_text(table(rows))
    texts = [text for (text,) in rows_of(found)]
    assert len({plain(text) for text in texts}) == len(texts)
    assert {plain(text) for text in texts} == {plain(text) for row in rows for text in row}
    assert found.labels == []
    assert len(set(found.ids)) == len(found)


def test_each_text_keeps_its_first_spelling_and_says_which_column_it_comes_from() -> None:
    found = each_text(table([("A", "b"), ("a ", "c")]))
    assert (found.texts, found.ids, [*found.places]) == ([["A", "b", "c"]], ["0/1", "0/2", "1/2"], [0, 0, 1])


def test_twice_pairs_a_text_with_itself() -> None:
    assert rows_of(twice(table([("a",), ("b",)]))) == [("a", "a"), ("b", "b")]


@given(pairs, pairs)
def test_joined_is_one_after_the_other(a: list[tuple[str, ...]], b: list[tuple[str, ...]]) -> None:
    both = joined("both", [table(a, "a"), table(b, "b")])
    assert rows_of(both) == a + b
    assert len(both.labels) == len(both) == len(set(both.ids))
    assert both.fingerprint != joined("both", [table(a, "a"), table(b, "c")]).fingerprint


@given(pairs, pairs)
def test_a_pair_that_is_held_out_is_left_out_in_either_order(
    a: list[tuple[str, ...]], b: list[tuple[str, ...]]
) -> None:
    held = {frozenset(map(plain, row)) for row in b}
    held |= {frozenset([text]) for row in held for text in row}  # of which a row of two equal texts is made
    wanted = [row for row in a if frozenset(map(plain, row)) not in held]
    assert rows_of(without(table(a), [table(b)])) == wanted if wanted else not len(without(table(a), [table(b)]))


def test_a_text_that_is_paired_with_itself_is_a_single_text() -> None:
    rows: list[tuple[str, ...]] = [("a", "A "), ("a", "c"), ("c", "d"), ("e", "e")]
    assert rows_of(without(table(rows), [table([("a", "b"), ("d", "c")])])) == [("a", "c"), ("e", "e")]


@given(single, st.one_of(pairs, single))
def test_a_text_is_left_out_wherever_it_is_held_out(a: list[tuple[str, ...]], b: list[tuple[str, ...]]) -> None:
    held = {plain(text) for row in b for text in row}
    assert without(table(a), [table(b)]).texts[0] == [text for (text,) in a if plain(text) not in held]
