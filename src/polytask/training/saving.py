"""Checkpoints: what is written when, and in which order, so that a run torn down at any moment goes on from the last one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from polytask.model import Model
from polytask.run.folder import RunFolder
from polytask.run.journal import Journal
from polytask.run.tensors import copy_into, load_tensors, save_tensors
from polytask.runtime import files
from polytask.runtime.processes import Processes

from .bests import Mixture, Verdict
from .step import Step


class Checkpoints:
    """A run folder's checkpoints, and the index that says which of its files count.

    The index is written last: until then all files that the one on the disk names are still there, whole. One process
    writes; all of them hold the same index.
    """

    def __init__(self, folder: RunFolder, model: Model, processes: Processes) -> None:
        self.folder, self.model, self.processes = folder, model, processes
        self.index = folder.read_index()
        self._mixture: Mixture | None = None

    def update(self, **changes: object) -> None:
        """Change the index in memory; a commit writes it."""
        self.index = self.index.with_(**changes)

    def note(self, verdict: Verdict) -> None:
        """Take up an evaluation's verdict; a mixture of former and present weights is written with the next checkpoint."""
        self.index = verdict.index
        self._mixture = verdict.mixture or self._mixture

    def commit(self, name: str, step: Step, journal: Journal, *, stage: int, done: int) -> None:
        """Write a checkpoint: ``done`` steps of a stage, and the journal as long as it is now."""
        self.update(last=name, stage=stage, step=done, journal=journal.length)
        if self.processes.leads:
            weights = step.weights.tensors()
            self._save(weights, self.folder.weights(name))
            self._mix(weights)
            self._save(step.state_dict(), self.folder.state(name))
            journal.sync()
            self.folder.write_index(self.index)
        self.processes.wait()

    def finish(self, verdict: Verdict) -> None:
        """Mark the run as finished, and give the best weights their name."""
        self.note(verdict)
        self.update(finished=True)
        if self.processes.leads:
            self._mix(dict(self.model.named_parameters()))
            best = self.folder.checked(self.folder.weights(str(self.index.best)), self.index)
            files.write_with(self.folder.model, lambda aside: files.link_or_copy(best, aside))
            self.folder.write_index(self.index)
        self.processes.wait()

    def take_up_weights(self) -> None:
        """Copy the last checkpoint's weights into the model."""
        path = self.folder.weights(str(self.index.last))
        copy_into(self.model, load_tensors(self.folder.checked(path, self.index)), path)

    def state(self) -> dict[str, Tensor]:
        """Return the last checkpoint's state: of optimizer, balance, aggregators, regularizers."""
        return load_tensors(self.folder.checked(self.folder.state(str(self.index.last)), self.index))

    def _mix(self, now: Mapping[str, Tensor]) -> None:
        if self._mixture is not None:
            path = self.folder.weights(self._mixture.former)
            former = load_tensors(self.folder.checked(path, self.index))
            self._save(self._mixture.of(self.model, now, former), self.folder.weights(str(self.index.best)))
            self._mixture = None

    def _save(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        save_tensors(tensors, path)
        self.update(hashes=self.index.hashes | {self.folder.name_of(path): files.digest(path)})


def checkpoint_name(stage: int, done: int) -> str:
    """Return the name of the checkpoint after ``done`` steps of a stage."""
    return f"{stage + 1}-{done:06d}"
