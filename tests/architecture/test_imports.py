"""What is imported for what: opening a run to predict takes no training, reading its records no torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOADED = "import sys\n{work}\nprint('\\n'.join(sorted(sys.modules)))"


def modules_after(work: str) -> set[str]:
    """Return the modules that a process has imported after some work."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    command = [sys.executable, "-c", LOADED.format(work=work)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def loading() -> set[str]:
    return modules_after("import polytask; polytask.load")


@pytest.mark.parametrize(
    "room",
    ["training", "jobs", "regularizers", "aggregators", "balance", "starter", "assembly.tables", "assembly.stages"],
)
def test_opening_a_run_for_prediction_imports_no(loading: set[str], room: str) -> None:
    name = f"polytask.{room}"
    assert not [module for module in loading if module == name or module.startswith(f"{name}.")]


@pytest.mark.parametrize("library", ["scipy", "torchjd", "pandas", "pyarrow", "transformers", "typer", "rich"])
def test_nor(loading: set[str], library: str) -> None:
    assert library not in loading


def test_records_of_a_run_are_read_without_torch() -> None:
    work = (
        "import polytask.run.index, polytask.run.journal, polytask.run.folder, polytask.run.scores, polytask.run.events"
    )
    assert "torch" not in modules_after(work)


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_command_line_answers_without_torch(command: str) -> None:
    called = f"import sys; sys.argv = ['polytask', {command!r}]\nfrom polytask.cli.main import main"
    work = f"{called}\ntry:\n    main()\nexcept SystemExit: pass"
    assert "torch" not in modules_after(work)
