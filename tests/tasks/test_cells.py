"""Labels are what the table says, whatever program wrote it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from polytask.tasks.kinds.base import kinds


def infer(kind: str, cells: list[str]) -> list[str]:
    return kinds.create(kind, {}).infer(cells)


def test_codes_are_not_numbers() -> None:
    assert infer("classification", ["01", "1", "001", "1.0"]) == ["001", "01", "1"]
    assert infer("classification", ["1e2", "100"]) == ["100", "1e2"]
    ids = ["1234567890123456789", "1234567890123456788"]
    assert infer("classification", ids) == sorted(ids)


def test_booleans_of_frames_and_of_csv_are_the_same() -> None:
    kind = kinds.create("binary", dict.fromkeys(("false", "true")) | {"false": "false", "true": "true"})
    assert [kind.encode(cell) for cell in ("True", "true", "FALSE", "false")] == [1, 1, 0, 0]
    named = kinds.create("binary", {"False": "no", "True": "yes"})
    assert [named.encode(cell) for cell in ("true", "False")] == [1, 0]


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("a;b", ["a", "b"]),
        ("4,27", ["4", "27"]),
        ("['joy', 'fear']", ["joy", "fear"]),
        ('["joy", "fear"]', ["joy", "fear"]),
        ("[4, 27]", ["4", "27"]),
        ("[]", []),
        ("none", []),
        ("so, so; well", ["so, so", "well"]),
        ("[sic]", ["[sic]"]),
    ],
)
def test_every_way_of_listing_labels(cell: str, wanted: list[str]) -> None:
    assert kinds.create("multilabel", {}).parts(cell) == wanted


def test_a_separator_that_is_given_is_the_only_one() -> None:
    assert kinds.create("multilabel", {}, separator="|").parts("a, b|c;d") == ["a, b", "c;d"]


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["high", "low", "medium"], '"low", "medium", "high"'),
        (["Good", "Excellent", "Poor", "Fair"], '"Poor", "Fair", "Good", "Excellent"'),
        (["agree", "strongly disagree", "neutral"], '"strongly disagree", "neutral", "agree"'),
    ],
)
def test_words_in_order_are_asked_for_and_proposed(cells: list[str], order: str) -> None:
    with pytest.raises(ValueError, match="whose order nobody can tell") as caught:
        infer("ordinal", cells)
    assert f"labels = [{order}]" in str(caught.value)


def test_the_order_of_labels_does_not_depend_on_a_hash() -> None:
    code = "from polytask.tasks.kinds.base import kinds; "
    code += (
        "print(kinds.create('classification', {}).infer(['nan', '3', 'b', 'inf', '-1', 'a', '10', '2.5', '1', 'NaN']))"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert orders == {"['-1', '1', '2.5', '3', '10', 'NaN', 'a', 'b', 'inf', 'nan']\n"}
