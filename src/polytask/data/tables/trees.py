"""Labelled parse trees, one on each line: ``(3 (2 It) (4 (2 's) (4 lovely)))`` (Socher et al. 2013)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from polytask.errors import TableError

# Only blanks and tabs part words: the treebank has words with a no-break space in them.
_TOKEN = re.compile(r"[()]|[^ \t()]+")


@dataclass(frozen=True)
class Node:
    """A node: its label, and the words ``start`` to ``end`` of the sentence that stand below it."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Tree:
    """A sentence with its labelled phrases, from the root on in the order in which they are written."""

    line: int
    words: tuple[str, ...]
    nodes: tuple[Node, ...]

    @property
    def sentence(self) -> str:
        return " ".join(self.words)

    def phrase(self, node: Node) -> str:
        """Return the words below a node, with blanks between them."""
        return " ".join(self.words[node.start : node.end])


@dataclass(frozen=True)
class Treebank:
    """The trees of a file, and the SHA-256 of its bytes."""

    name: str
    trees: tuple[Tree, ...]
    fingerprint: str


def read_trees(path: str | Path) -> Treebank:
    """Read a file of trees; empty lines are passed over. Raises TableError that names line and column."""
    try:
        content = Path(path).read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(f"{path}: line {line} is not UTF-8.") from error
    trees = tuple(_tree(str(path), n, line.rstrip("\r")) for n, line in enumerate(lines, 1) if line.strip())
    if not trees:
        raise TableError(f"{path} has no trees.")
    return Treebank(str(path), trees, hashlib.sha256(content).hexdigest())


def _tree(name: str, number: int, line: str) -> Tree:
    try:
        return _Reader(line).tree(number)
    except _Malformed as error:
        column, message = error.args
        raise TableError(f"{name}: line {number}, column {column}: {message}.") from None


class _Malformed(Exception):
    """A column, and what is wrong there."""


class _Reader:
    """Reads one line with a stack of its own: a tree may be deeper than Python's recursion."""

    def __init__(self, line: str) -> None:
        self.end = len(line) + 1
        self.tokens = [(match.group(), match.start() + 1) for match in _TOKEN.finditer(line)]
        self.at = 0
        self.words: list[str] = []
        self.nodes: list[Node] = []
        self.open: list[tuple[int, int]] = []  # number of a node that is not closed yet, and its column

    def tree(self, line: int) -> Tree:
        self._open_node()
        while self.open:
            token, column = self._next("')'")
            if token == "(":
                self.at -= 1
                self._open_node()
            elif token == ")":
                self._close_node(column)
            else:
                raise _Malformed(
                    column, f"'{token}' stands beside other nodes; a word has a node of its own, (2 {token})"
                )
        if self.at < len(self.tokens):
            token, column = self.tokens[self.at]
            raise _Malformed(column, f"there is '{token}' after the end of the tree")
        return Tree(line, tuple(self.words), tuple(self.nodes))

    def _open_node(self) -> None:
        token, column = self._next("'('")
        if token != "(":
            raise _Malformed(column, f"there is '{token}' where a tree begins with '('")
        label, where = self._next("a label")
        if label in "()":
            raise _Malformed(where, f"there is '{label}' where the node's label is wanted")
        self.open.append((len(self.nodes), column))
        self.nodes.append(Node(label, len(self.words), -1))
        if self.at < len(self.tokens) and self.tokens[self.at][0] not in "()":
            self._leaf()

    def _leaf(self) -> None:
        self.words.append(self._next("a word")[0])
        token, column = self._next("')'")
        if token != ")":
            raise _Malformed(column, f"there is '{token}' where ')' ends the node of the word '{self.words[-1]}'")
        self._close_node(column)

    def _close_node(self, column: int) -> None:
        number, _ = self.open.pop()
        node = self.nodes[number]
        if node.start == len(self.words):
            raise _Malformed(column, f"the node '{node.label}' has neither a word nor nodes below it")
        self.nodes[number] = Node(node.label, node.start, len(self.words))

    def _next(self, wanted: str) -> tuple[str, int]:
        if self.at == len(self.tokens):
            began = f"; the node that begins in column {self.open[-1][1]} is not closed" if self.open else ""
            raise _Malformed(self.end, f"the line ends where {wanted} is wanted{began}")
        self.at += 1
        return self.tokens[self.at - 1]
