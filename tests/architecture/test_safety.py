"""Nothing is unpickled, no shell is called, no text is evaluated, and the network is used in two files.

Read off the source's syntax tree, so that a name in a comment is none, and an alias is one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "polytask"
FILES = {str(file.relative_to(SOURCE)): file for file in sorted(SOURCE.rglob("*.py"))}

UNPICKLERS = {"pickle", "_pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib", "jsonpickle"}
HARMLESS = {"pickle.UnpicklingError"}
"""Names of modules above that run nothing."""
NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "pty.spawn", "code.interact"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "tempfile.mktemp"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "torch.jit.load", "torch.package"),
    *("runpy.run_path", "runpy.run_module", "np.fromregex", "numpy.fromregex", "pd.read_pickle", "pandas.read_pickle"),
}
WITH: dict[str, tuple[str, bool]] = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "from_pretrained": ("trust_remote_code", False),
    "from_config": ("trust_remote_code", False),
}
"""Calls that must say a word, and which."""
UNLESS_FALSE = ("shell", "allow_pickle", "trust_remote_code")
ONLY_IN: dict[str, set[str]] = {
    "subprocess": {"encoder/foreign/fetch.py", "jobs/verify.py"},
    "huggingface_hub": {"encoder/foreign/fetch.py"},
    "datasets": {"data/tables/formats.py"},
    "importlib.import_module": {"registry.py", "__init__.py"},
    **{key: set() for key in ("socket", "urllib.request", "http.client", "ftplib", "requests", "httpx", "ctypes")},
}
"""Modules and functions that only some files may use."""


def names_of(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name stands for: ``system`` for ``os.system`` after ``from os import system``."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def mentions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that is used or imported, in full, with its line."""
    names = names_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, f"import {name.name}") for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            written = ast.unparse(node)
            first, _, rest = written.partition(".")
            yield node.lineno, ".".join(part for part in (names.get(first, first), rest) if part)


def dangers(source: str, file: str = "") -> list[str]:
    """Return what could run a stranger's code, or reach the network from where it should not."""
    tree = ast.parse(source)
    found = set()
    for line, name in mentions(tree):
        module = name.removeprefix("import ")
        if name in NEVER:
            found.add(f"line {line}: {name}")
        if name.split(".")[0] in UNPICKLERS and "." in name and name not in HARMLESS:
            found.add(f"line {line}: {name}")
        if module.split(".")[0] in UNPICKLERS - {"pickle"}:
            found.add(f"line {line}: {module}")
        for other, files in ONLY_IN.items():
            if file not in files and (module == other or module.startswith(f"{other}.")):
                found.add(f"line {line}: {other} in {file}")
    return sorted(found | set(_calls(tree)))


def _calls(tree: ast.AST) -> Iterator[str]:
    names = names_of(tree)
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        written = ast.unparse(call.func)
        first, _, rest = written.partition(".")
        name = ".".join(part for part in (names.get(first, first), rest) if part)
        said = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        given = {word.arg for word in call.keywords}
        for wanted in (name, written.rpartition(".")[2]):
            if wanted in WITH and said.get(WITH[wanted][0]) is not WITH[wanted][1]:
                yield f"line {call.lineno}: {wanted} without {WITH[wanted][0]}={WITH[wanted][1]}"
        for word in UNLESS_FALSE:
            if word in given and said.get(word) is not False and WITH.get(name, ("",))[0] != word:
                yield f"line {call.lineno}: {written} with {word}"


@pytest.mark.parametrize("file", FILES)
def test_nothing_runs_code_from_outside(file: str) -> None:
    assert dangers(FILES[file].read_text(encoding="utf-8"), file) == []


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 80
    allowed = {file for files in ONLY_IN.values() for file in files}
    assert allowed <= FILES.keys()


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load\nload(path)",
        "import torch as t\nt.load(path)",
        "pickle.loads(data)",
        "from pickle import load",
        "import pickle as p\np.loads(data)",
        "import shelve",
        "from marshal import loads",
        "import dill",
        "os.system('ls')",
        "from os import system",
        "from os import system as s\nprint(s)",
        "os.popen('ls')",
        "subprocess.run('ls', shell=True)",
        "import subprocess",
        "from subprocess import run",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "np.save(path, array)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_config(config)",
        "eval(text)",
        "exec(text)",
        "run = exec",
        "compile(text, name, 'exec')",
        "__import__('os')",
        "yaml.load(text)",
        "torch.jit.load(path)",
        "import urllib.request",
        "from urllib.request import urlopen",
        "import requests",
        "from huggingface_hub import snapshot_download",
        "import ctypes",
        "importlib.import_module(name)",
        "from importlib import import_module",
    ],
)
def test_the_search_for_dangers_finds_them(line: str) -> None:
    assert dangers(line, "training/step.py")


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "model.eval()",
        "re.compile('x')",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "# eval(text)\ntext = 'os.system'",
        "from .marshal import x",
        "import importlib.metadata",
    ],
)
def test_the_search_for_dangers_lets_safe_lines_through(line: str) -> None:
    assert not dangers(line, "training/step.py")


def test_processes_are_called_with_lists() -> None:
    """A command is a list of words that nobody else wrote: what starts it is no shell."""
    tree = ast.parse(FILES["encoder/foreign/fetch.py"].read_text(encoding="utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.run"
    ]
    assert len(calls) == 1
    command = ast.unparse(calls[0].args[0])
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == command]
    assert [type(node.value) for node in made] == [ast.List]
