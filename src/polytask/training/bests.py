"""What an evaluation is the best of: of each task, of each encoder, of the stage.

The joint best is each encoder, with the heads that stand on it, as it was when its tasks scored best. Encoders share
nothing, so the best of each can be put together, whichever stage or step it comes from: with one encoder for all that is
the checkpoint with the best aggregate, with an encoder for each task it is each task at its own best.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from torch import Tensor

from polytask.evaluation.aggregates.base import Aggregate
from polytask.evaluation.scoring import Metrics, aggregated, judged
from polytask.model import Model
from polytask.run.index import Index, Waited
from polytask.run.scores import Scores

from .stages import Stage


@dataclass(frozen=True)
class Mixture:
    """Weights that are yet to be put together: those of ``kept`` encoders from a former best, all others as they are."""

    former: str
    kept: frozenset[str]

    def of(self, model: Model, now: Mapping[str, Tensor], former: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights, by name."""
        return {name: (former if owner(model, name) in self.kept else now)[name] for name in now}


@dataclass(frozen=True)
class Verdict:
    """What an evaluation was the best of: the index that says so, and the mixture that its joint best needs, if it does.

    ``best``: an encoder is better than ever; ``kept`` are those of which a former best stays.
    """

    index: Index
    best: bool
    kept: frozenset[str]
    mixture: Mixture | None = None


class Bests:
    """Judges evaluations. ``scored`` are the tasks with a dev table."""

    def __init__(
        self,
        model: Model,
        stages: Sequence[Stage],
        scored: Iterable[str],
        metrics: Mapping[str, Metrics],
        aggregate: Aggregate,
    ) -> None:
        self.judges = judges_of(model, stages, scored)
        self._metrics, self._aggregate = metrics, aggregate

    def aggregate(self, scores: Mapping[str, Scores], tasks: Iterable[str]) -> float:
        """Return the one number of some tasks' scores."""
        return aggregated({task: scores[task] for task in tasks}, self._metrics, self._aggregate)

    def judge(
        self, index: Index, stage: Stage, scores: Mapping[str, Scores], touched: AbstractSet[str], checkpoint: str
    ) -> Verdict:
        """Return what an evaluation, after which ``checkpoint`` is written, is the best of.

        ``touched`` are the tasks whose predictions the stage can change: the others' scores are no news.
        """
        index = index.with_(scores=dict(scores), waited=self._waited(index.waited, stage, scores))
        return self._of_encoders(self._of_tasks(index, scores, checkpoint), scores, touched, checkpoint)

    def at_the_end(self, index: Index, encoders: AbstractSet[str]) -> Verdict:
        """Return the verdict on a run as a whole: encoders that were never judged are best as they are last."""
        kept, mixture = self.begun(index.best_scores), None
        if kept and kept < encoders:
            mixture = Mixture(str(index.best), kept)
            index = index.with_(best=f"{index.last}-end")
        return Verdict(index.with_(best=index.best or index.last), False, kept, mixture)

    def begun(self, scores: Collection[str]) -> frozenset[str]:
        """Return the encoders that have a best already: all their judges have a score there."""
        return frozenset(encoder for encoder, tasks in self.judges.items() if all(task in scores for task in tasks))

    def _waited(self, waited: Waited, stage: Stage, scores: Mapping[str, Scores]) -> Waited:
        """Count the evaluations without a new best of the stage, by its own tasks: the others' do not speak for it."""
        own = [name for name in scores if name in stage.tasks]
        if not own:
            return waited
        value, minimum = self.aggregate(scores, own), stage.patience.minimum if stage.patience else 0.0
        better = waited.best is None or value > waited.best + minimum
        # A gain below the minimum starts no new wait, and still raises the bar.
        best = value if waited.best is None else max(value, waited.best)
        return Waited(best=best, evaluations=0 if better else waited.evaluations + 1)

    def _of_tasks(self, index: Index, scores: Mapping[str, Scores], checkpoint: str) -> Index:
        known, better = index.best_values, {}
        for task, found in scores.items():
            new = judged(found, self._metrics[task])
            if task not in known or new.metric.gain(new.value, known[task]) > 0:
                better[task] = new.value
        return index.with_(best_of=index.best_of | dict.fromkeys(better, checkpoint), best_values=known | better)

    def _of_encoders(
        self, index: Index, scores: Mapping[str, Scores], touched: AbstractSet[str], checkpoint: str
    ) -> Verdict:
        # An encoder is judged once the turn of all its tasks has come: until then heads are as they were drawn.
        held, had = index.best_scores, self.begun(index.best_scores)
        risen = {
            encoder: judges
            for encoder, judges in self.judges.items()
            if not touched.isdisjoint(judges)
            and scores.keys() >= set(judges)
            and (encoder not in had or self.aggregate(scores, judges) > self.aggregate(held, judges))
        }
        kept = frozenset(had - risen.keys())
        if not risen:
            return Verdict(index, False, kept)
        held = held | {task: scores[task] for judges in risen.values() for task in judges}
        best = f"{checkpoint}-best" if kept else checkpoint
        mixture = Mixture(str(index.best), kept) if kept else None
        index = index.with_(best=best, best_scores=held, best_aggregate=self.aggregate(held, held))
        return Verdict(index, True, kept, mixture)


def owner(model: Model, parameter: str) -> str:
    """Return the encoder that a parameter belongs to, or that its head stands on."""
    part, name, _ = parameter.split(".", 2)
    return name if part == "encoders" else model.encoder_of[name]


def judges_of(model: Model, stages: Sequence[Stage], scored: Iterable[str]) -> dict[str, list[str]]:
    """Return the tasks by whose scores each encoder is judged: those that some stage trains.

    A head that stays as it was drawn scores by chance, and chance must not choose.
    """
    trained = {task for stage in stages for task in stage.tasks}
    by_encoder: dict[str, list[str]] = {}
    for task in scored:
        if task in trained:
            by_encoder.setdefault(model.encoder_of[task], []).append(task)
    return by_encoder
