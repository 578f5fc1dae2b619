"""What every format of predictions promises; what a run folder keeps comes back bit for bit."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from polytask.errors import PolytaskError, UserError
from polytask.evaluation.formats.base import Labels, formats
from polytask.evaluation.predictions import Predictions, predictions_file, read_predictions, write_predictions
from polytask.metrics.base import Predicted

IDS = ["a", "b ", 'c"', "d;e"]
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.0, 1e-9, 1 - 1e-9], [0.1, 0.1, 0.8]])
LOSS = np.array([0.1, 2.0, 1e-12, 3.3])
SOME: dict[str, Predictions] = {
    "classes": Predictions(IDS, Predicted(np.array([0, 0, 2, 2]), PROBABILITIES), "xyz", np.array([0, 1, 2, 0]), LOSS),
    "labels": Predictions(
        IDS,
        Predicted(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]), PROBABILITIES),
        ("x", "y;z", 'say "y"'),
        np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]]),
        LOSS,
    ),
    "numbers": Predictions(
        IDS,
        Predicted(values_N=np.array([0.1, 2.0, -3.7, 1e9])),
        (),
        np.array([0.1, 4.2, 2015, 0], np.float32).astype(np.float64),
        LOSS,
    ),
    "rank": Predictions(IDS, Predicted(values_N=LOSS, columns={"rank": np.array([1.0, 2.0, 9.0, 1.0])})),
}


def same(one: Predictions, other: Predictions) -> None:
    """Assert that two are equal bit for bit."""
    assert list(one.ids) == list(other.ids)
    assert list(one.names) == list(other.names)
    for name, array in arrays(one).items():
        found = arrays(other)[name]
        assert (array is None) is (found is None), name
        if array is not None and found is not None:
            assert array.dtype == found.dtype
            np.testing.assert_array_equal(array, found, err_msg=name)


def arrays(of: Predictions) -> Mapping[str, NDArray[Any] | None]:
    predicted = of.predicted
    return {
        "codes": predicted.codes,
        "probabilities": predicted.probabilities_NC,
        "values": predicted.values_N,
        "truth": of.truth,
        "loss": of.loss_N,
        **predicted.columns,
    }


@pytest.mark.parametrize("what", SOME)
def test_what_is_kept_comes_back_bit_for_bit(tmp_path: Path, what: str) -> None:
    write_predictions(tmp_path / "p.csv", SOME[what], Labels())
    same(SOME[what], read_predictions(tmp_path / "p.csv"))


NAMES = st.text(st.sampled_from('ab;",\n\r p()'), max_size=4)


@given(st.lists(NAMES, min_size=2, max_size=4, unique=True), st.data())
def test_any_names_and_numbers_come_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    shape = (data.draw(st.integers(1, 3)), len(names))
    bits = st.lists(st.integers(0, 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    tables = [np.array(data.draw(bits), dtype=np.int64).reshape(shape) for _ in range(2)]
    share = st.floats(0, 1, allow_subnormal=True)
    probabilities_NC = np.array([[data.draw(share) for _ in names] for _ in range(shape[0])])
    ids = [data.draw(NAMES) for _ in range(shape[0])]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    several = Predictions(ids, Predicted(tables[0], probabilities_NC), names, tables[1], probabilities_NC[:, 0])
    single = Predictions(ids, Predicted(tables[0].argmax(1), probabilities_NC), names, tables[1].argmax(1))
    for given_ in (several, single):
        write_predictions(path, given_, Labels())
        same(given_, read_predictions(path))


@pytest.mark.parametrize("format", formats.names())
@pytest.mark.parametrize("what", SOME)
def test_portions_make_the_file_of_the_whole(tmp_path: Path, format: str, what: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    labels = Labels("mood", {name: name for name in SOME[what].names})
    write_predictions(tmp_path / "whole", SOME[what], labels, format)
    with predictions_file(tmp_path / "parts", labels, format) as write:
        for rows in (slice(0, 1), slice(1, 4)):
            write(part(SOME[what], rows))
    if format == "parquet":
        assert tables_of(tmp_path / "whole") == tables_of(tmp_path / "parts")
    else:
        assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "parts"}


def part(of: Predictions, rows: slice) -> Predictions:
    def cut(array: NDArray[Any] | None) -> Any:
        return None if array is None else array[rows]

    predicted = of.predicted
    columns = {name: values_N[rows] for name, values_N in predicted.columns.items()}
    some = Predicted(cut(predicted.codes), cut(predicted.probabilities_NC), cut(predicted.values_N), columns)
    return Predictions(of.ids[rows], some, of.names, cut(of.truth), cut(of.loss_N))


def tables_of(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path).to_pydict()


@pytest.mark.parametrize("what", SOME)
def test_parquet_has_what_records_have(tmp_path: Path, what: str) -> None:
    pytest.importorskip("pyarrow")
    write_predictions(tmp_path / "p", SOME[what], Labels(), "parquet")
    columns = tables_of(tmp_path / "p")
    for row, record in enumerate(SOME[what].records()):
        shares = {f"p({name})": share for name, share in record.pop("probabilities", {}).items()}
        assert {name: values[row] for name, values in columns.items()} == record | shares


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(PolytaskError, match=r"Writing Parquet needs the package 'pyarrow'.*polytask\[data\]"):
        write_predictions(tmp_path / "p", SOME["rank"], Labels(), "parquet")
    assert not list(tmp_path.iterdir())


def test_a_table_to_be_looked_at_has_six_digits_and_one_to_be_scored_all(tmp_path: Path) -> None:
    plain = Predictions(IDS, SOME["classes"].predicted, "xyz")
    write_predictions(tmp_path / "p.csv", plain, Labels())
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == [
        "id,prediction,p(x),p(y),p(z)",
        "a,x,0.700000,0.200000,0.100000",
        "b ,x,0.333333,0.333333,0.333333",
    ]
    write_predictions(tmp_path / "p.csv", SOME["classes"], Labels())
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,prediction,truth,p(x),p(y),p(z),loss"
    assert lines[2] == f"b ,x,y,{1 / 3},{1 / 3},{1 / 3},2"


def test_numbers_of_the_table_are_written_as_they_stood_there(tmp_path: Path) -> None:
    assert SOME["numbers"].shown_truth == [0.1, 4.2, 2015.0, 0.0]


def test_what_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(UserError, match="There are no predictions at"):
        read_predictions(path)
    for text, wrong in [
        ("", "cannot be read as predictions"),
        ("id,prediction,p(x),p(y)\na,x,1,0\n", "no column 'truth'"),
        ("id,prediction,truth,p(x),p(y)\na,x,w,1,0\n", "names the label 'w'"),
        ("id,prediction,truth\na,x,1\n", "cannot be read as predictions"),
        ("id,prediction,truth\na,1\n", "cannot be read as predictions"),
        ("id,truth\na,1\n", "cannot be read as predictions"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=wrong):
            read_predictions(path)
    with pytest.raises(UserError, match="cannot be read back"):
        formats.member("cs224n").read(path)


@pytest.mark.parametrize("format", formats.names())
def test_a_failure_leaves_what_there_was(tmp_path: Path, format: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "p").write_text("before", encoding="utf-8")

    def half() -> None:
        with predictions_file(tmp_path / "p", Labels(), format) as write:
            write(part(SOME["rank"], slice(0, 2)))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        half()
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["before"]
