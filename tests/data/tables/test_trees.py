"""Labelled trees are read as they are written, and what is malformed is named with line and column."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.tables.trees import Tree, read_trees
from polytask.errors import TableError

LOVELY = "(3 (2 It) (4 (2 's) (4 (3 so) (4 lovely))))"


def written(folder: Path, text: str) -> Path:
    path = folder / "trees.txt"
    path.write_bytes(text.encode())
    return path


def phrases(tree: Tree) -> list[tuple[str, str]]:
    return [(node.label, tree.phrase(node)) for node in tree.nodes]


def test_a_tree_by_hand(tmp_path: Path) -> None:
    bank = read_trees(written(tmp_path, LOVELY + "\r\n\n" + "\ufeff"[:0] + "(0 dull)\n"))
    assert [tree.line for tree in bank.trees] == [1, 3]
    assert phrases(bank.trees[0]) == [
        ("3", "It 's so lovely"),
        ("2", "It"),
        ("4", "'s so lovely"),
        ("2", "'s"),
        ("4", "so lovely"),
        ("3", "so"),
        ("4", "lovely"),
    ]
    assert phrases(bank.trees[1]) == [("0", "dull")]
    assert bank.trees[0].sentence == "It 's so lovely"
    assert bank.fingerprint == hashlib.sha256((tmp_path / "trees.txt").read_bytes()).hexdigest()


def test_a_byte_order_mark_and_a_word_with_a_no_break_space(tmp_path: Path) -> None:
    bank = read_trees(written(tmp_path, "\ufeff(2 (2 two\u00a0words) (2 -LRB-))"))
    assert bank.trees[0].words == ("two\u00a0words", "-LRB-")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("3 It", "column 1: there is '3' where a tree begins with '('"),
        ("(3 (2 It) (4 fun)", "column 18: the line ends where ')' is wanted; the node that begins in column 1"),
        ("(3 (2 It) (4 fun)))", "column 19: there is ')' after the end of the tree"),
        ("(3 (2 It) (4 great fun))", "column 20: there is 'fun' where ')' ends the node of the word 'great'"),
        ("(3 (2 It) fun)", "column 11: 'fun' stands beside other nodes; a word has a node of its own, (2 fun)"),
        ("((2 It) (4 fun))", "column 2: there is '(' where the node's label is wanted"),
        ("(3 (2 It) ())", "column 12: there is ')' where the node's label is wanted"),
        ("(3 (2 It) (4))", "column 13: the node '4' has neither a word nor nodes below it"),
        ("(3", "column 3: the line ends where ')' is wanted; the node that begins in column 1"),
        ("(", "column 2: the line ends where a label is wanted"),
    ],
)
def test_a_malformed_tree_is_named_with_line_and_column(tmp_path: Path, line: str, told: str) -> None:
    path = written(tmp_path, f"{LOVELY}\n{line}\n")
    with pytest.raises(TableError) as raised:
        read_trees(path)
    assert str(raised.value).startswith(f"{path}: line 2, {told}"), raised.value


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read: No such file"):
        read_trees(tmp_path / "absent.txt")
    with pytest.raises(TableError, match="has no trees"):
        read_trees(written(tmp_path, "\n\n"))
    (tmp_path / "trees.txt").write_bytes(LOVELY.encode() + b"\n(2 caf\xe9)")
    with pytest.raises(TableError, match="line 2 is not UTF-8"):
        read_trees(tmp_path / "trees.txt")


def test_depth_is_no_matter(tmp_path: Path) -> None:
    tree = read_trees(written(tmp_path, "(2 (2 a) " * 5000 + "(2 b)" + ")" * 5000)).trees[0]
    assert len(tree.words) == 5001
    assert len(tree.nodes) == 10001


words = st.text("abcN'.,`-é\\/", min_size=1, max_size=5)
Nested = tuple[int, "str | list[Nested]"]
nested: st.SearchStrategy[Nested] = st.recursive(
    st.tuples(st.integers(0, 4), words),
    lambda below: st.tuples(st.integers(0, 4), st.lists(below, min_size=1, max_size=3)),
    max_leaves=12,
)


def shown(tree: Nested) -> str:
    label, below = tree
    return f"({label} {below if isinstance(below, str) else ' '.join(map(shown, below))})"


def spoken(tree: Nested) -> list[tuple[str, str]]:
    """Return the phrases of a nested tree by plain recursion: the oracle."""
    label, below = tree
    if isinstance(below, str):
        return [(str(label), below)]
    parts = [spoken(part) for part in below]
    return [(str(label), " ".join(part[0][1] for part in parts)), *(phrase for part in parts for phrase in part)]


@given(nested)
def test_phrases_are_those_of_a_recursive_reading(tmp_path_factory: pytest.TempPathFactory, tree: Nested) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert phrases(read_trees(written(folder, shown(tree))).trees[0]) == spoken(tree)
