"""A run folder is what its index says: what it names is kept, the rest goes, and one process holds it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from polytask.errors import RunFolderError
from polytask.run.events import Noted, StageEnded, Started
from polytask.run.folder import RunFolder
from polytask.run.index import FORMAT, Index, Waited
from polytask.run.journal import Journal, read_events, read_journal


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    with RunFolder.claimed(tmp_path / "run") as made:
        made.recipe.write_text("")
    return made


def holder(path: Path) -> subprocess.Popen[str]:
    """Return another process that tries to hold the folder, and says so."""
    code = (
        "import sys, pathlib\nfrom polytask.run.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).locked():\n"
        "    sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_index_comes_back_as_it_was(folder: RunFolder) -> None:
    index = Index(
        last="1-20",
        best="0-10",
        best_of={"sst": "0-10", "sts": "1-20"},
        stage=1,
        step=20,
        journal=77,
        finished=True,
        best_aggregate=0.1 + 0.2,
        best_values={"sst": 1 / 3},
        waited=Waited(best=0.25, evaluations=2),
    )
    folder.write_index(index)
    assert folder.read_index() == index


def test_a_folder_without_an_index_is_an_error_that_names_it(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"index\.json is missing"):
        folder.read_index()


@pytest.mark.parametrize(("format", "age"), [(2, "an older"), (0, "an older"), (FORMAT + 1, "a newer")])
def test_a_folder_of_another_format_is_told_from_a_damaged_one(folder: RunFolder, format: int, age: str) -> None:
    folder.index_path.write_text(json.dumps({"format": format, "something": "else"}))
    with pytest.raises(RunFolderError, match=rf"{age} polytask: its format is {format}, .* reads {FORMAT}") as told:
        folder.read_index()
    assert ("predictions their truth" in str(told.value)) is (format < FORMAT)


def test_a_file_that_is_not_what_the_index_knows_is_refused(folder: RunFolder) -> None:
    path = folder.weights("0-5")
    path.write_bytes(b"weights")
    index = Index(last="0-5", hashes={"weights/0-5.safetensors": hashlib.sha256(b"weights").hexdigest()})
    assert folder.checked(path, index) == path
    path.write_bytes(b"Weights")
    with pytest.raises(RunFolderError, match=r"0-5\.safetensors is damaged or was altered"):
        folder.checked(path, index)
    path.unlink()
    with pytest.raises(RunFolderError, match=r"0-5\.safetensors is missing"):
        folder.checked(path, index)
    folder.tokenizer.write_text("{}")
    with pytest.raises(RunFolderError, match=r"tokenizer\.json is damaged or was altered"):
        folder.checked(folder.tokenizer, index)


def test_the_index_forgets_the_hashes_of_what_goes(folder: RunFolder) -> None:
    hashes = {"weights/0-5.safetensors": "a", "state/0-5.safetensors": "b", "weights/0-9.safetensors": "c"}
    folder.write_index(Index(last="0-9", hashes=hashes | {"recipe.toml": "d"}))
    assert folder.read_index().hashes == {"weights/0-9.safetensors": "c", "recipe.toml": "d"}


@pytest.mark.parametrize("inner", ["weights", "state", "journal.jsonl", "index.json", "predictions/x.csv"])
def test_a_link_in_a_run_folder_is_refused(folder: RunFolder, tmp_path: Path, inner: str) -> None:
    # Resuming cuts the journal and clears weights/ and state/ of what the index doesn't name: never somebody else's.
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    place = folder.path / inner
    if place.is_dir():
        place.rmdir()
    place.symlink_to(outside / "precious" if "." in inner else outside)
    with pytest.raises(RunFolderError, match=f"{place} leads out of the run folder"):
        RunFolder.open(folder.path)
    assert (outside / "precious").read_text() == "x"


def test_files_that_the_index_does_not_name_go(folder: RunFolder) -> None:
    for name in ("0-5", "0-10", "0-15", "0-20"):
        folder.weights(name).write_text(name)
        folder.state(name).write_text(name)
    (folder.path / "weights" / ".0-25.safetensors.99.part").write_text("torn")
    folder.write_index(Index(last="0-20", best="0-10", best_of={"sst": "0-15"}))
    assert sorted(path.name for path in (folder.path / "weights").iterdir()) == [
        "0-10.safetensors",
        "0-15.safetensors",
        "0-20.safetensors",
    ]
    assert [path.name for path in (folder.path / "state").iterdir()] == ["0-20.safetensors"]


def test_the_index_is_committed_before_anything_goes(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.weights("0-5").write_text("old")
    folder.write_index(Index(last="0-5"))

    def fail(path: Path, text: str) -> None:
        raise RunFolderError("no space")

    monkeypatch.setattr("polytask.runtime.files.write_text", fail)
    with pytest.raises(RunFolderError, match="no space"):
        folder.write_index(Index(last="0-10"))
    assert folder.weights("0-5").exists()
    assert folder.read_index().last == "0-5"


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/b", "..", "", "a.b", "a\\b", "a b"])
@pytest.mark.parametrize("field", ["last", "best", "best_of"])
def test_a_checkpoint_name_that_could_lead_outside_is_refused(folder: RunFolder, field: str, name: str) -> None:
    index = Index.model_validate({field: {"sst": name} if field == "best_of" else name})
    (folder.path / "index.json").write_text(index.model_dump_json())
    with pytest.raises(RunFolderError, match="is not the name of a checkpoint"):
        folder.read_index()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"last": 3}', '{"unknown": 1}', "\x00", '{"journal": "long"}'])
def test_a_damaged_index_is_an_error_that_names_it(folder: RunFolder, text: str) -> None:
    (folder.path / "index.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"index\.json is not an index that polytask wrote"):
        folder.read_index()


def test_an_index_that_is_no_text_is_an_error_that_names_it(folder: RunFolder) -> None:
    (folder.path / "index.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFolderError, match=r"index\.json is not an index that polytask wrote"):
        folder.read_index()


def test_an_existing_folder_is_not_written_over(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="already exists and is not empty"):
        RunFolder.claimed(folder.path).__enter__()


def test_what_was_left_of_a_folder_that_never_became_a_run_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for inner in ("weights", "state", "predictions", "tables"):
        (path / inner).mkdir(parents=True)
        (path / inner / "left").write_text("x")
    for name in (".lock", "tokenizer.json", ".index.json.7.part"):
        (path / name).write_text("x")
    with RunFolder.claimed(path) as folder:
        assert sorted(inner.name for inner in path.rglob("*")) == [".lock", "predictions", "state", "weights"]
        folder.recipe.write_text("")
    assert RunFolder.open(path).path == path


def test_a_folder_that_another_process_is_making_is_refused_and_left_alone(tmp_path: Path) -> None:
    with RunFolder.claimed(tmp_path / "run") as folder:
        folder.tokenizer.write_text("mine")
        with pytest.raises(RunFolderError, match="Another process is training into"):
            RunFolder.claimed(tmp_path / "run").__enter__()
        assert folder.tokenizer.read_text() == "mine"
        folder.recipe.write_text("")


def test_a_folder_that_did_not_become_a_run_goes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder.claimed(tmp_path / "run"):
        raise RuntimeError
    assert not (tmp_path / "run").exists()

    def fail(folder: RunFolder) -> None:
        folder.recipe.write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError), RunFolder.claimed(tmp_path / "run") as folder:
        fail(folder)
    assert folder.recipe.exists()


def test_only_a_run_folder_is_opened_as_one(folder: RunFolder, tmp_path: Path) -> None:
    assert RunFolder.open(folder.path).path == folder.path
    with pytest.raises(RunFolderError, match="There is no run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(RunFolderError, match=r"it holds no recipe\.toml"):
        RunFolder.open(tmp_path)


def test_a_journal_reads_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.hear(StageEnded(0, 4, 0.5))
    journal.hear(Noted("nobody keeps this"))
    journal.hear(Started(1, "ein Zeilen\numbruch, déjà vu", "shared"))
    journal.sync()
    assert journal.length == (tmp_path / "journal.jsonl").stat().st_size
    journal.close()
    assert read_journal(tmp_path / "journal.jsonl") == [
        {"event": "stage", "stage": 0, "step": 4, "conflict": 0.5},
        {"event": "start", "stage": 1, "encoder": "ein Zeilen\numbruch, déjà vu", "as_is": "shared"},
    ]
    assert read_events(tmp_path / "journal.jsonl")[0] == StageEnded(0, 4, 0.5)


def test_a_journal_is_cut_to_what_the_last_checkpoint_knew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.hear(Started(1, "a", "b"))
    length = journal.length
    journal.hear(Started(2, "a", "b"))
    journal.close()
    again = Journal(path, length)
    assert read_events(path) == [Started(1, "a", "b")]
    again.hear(Started(3, "a", "b"))
    again.close()
    assert read_events(path) == [Started(1, "a", "b"), Started(3, "a", "b")]


def test_a_journal_that_lost_its_end_is_refused_rather_than_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "first"}\n')
    with pytest.raises(RunFolderError, match=r"journal\.jsonl .*was altered"):
        Journal(path, 500)
    assert path.read_text() == '{"event": "first"}\n'


def test_a_line_that_a_crash_tore_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "first"}\n{"event": "sec')
    assert read_journal(path) == [{"event": "first"}]
    assert read_journal(tmp_path / "none.jsonl") == []


def test_what_json_cannot_say_is_no_journal_entry(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.hear(StageEnded(0, 1, float("nan")))
    journal.close()


def test_a_second_process_is_refused_while_the_first_lives(folder: RunFolder) -> None:
    first = holder(folder.path)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match="Another process is training into"), folder.locked():
        pass
    first.kill()
    first.communicate()
    with folder.locked():
        second = holder(folder.path)
        _, complaint = second.communicate()
        assert second.returncode == 1
        assert "Another process is training into" in complaint


def test_a_lock_is_given_back_after_a_failure(folder: RunFolder) -> None:
    with pytest.raises(RuntimeError), folder.locked():
        raise RuntimeError
    with folder.locked():
        pass
