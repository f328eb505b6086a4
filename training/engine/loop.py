"""The training loop that every network shares: epochs, learning rate, moving average, early stop, snapshots."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from runtime.errors import ToolkitError
from runtime.tracking import Tracker, untracked
from training import parallel
from training.engine import snapshots
from training.engine.averages import WeightAverage
from training.engine.batches import EpochBatches, TensorRows, epoch_seed
from training.engine.rounding import Rounding
from training.engine.runs import Run
from training.engine.soap import Soap
from training.options import Options
from training.paths import snapshot_path

Losses = dict[str, Tensor]
MEASURING_BATCH = 1000
LossesOf = Callable[[nn.Module, tuple[Tensor, ...]], Losses]


class TrainingDivergedError(ToolkitError):
    """A loss became infinite or not a number."""


class Stateful(Protocol):
    """What learns beside the network, and whose state a snapshot keeps."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Job:
    """What to train and on what.

    losses_of(model, batch) gives named scalars, of which "loss" is minimised; parts: data on which the averaged
    network is measured after each epoch, "validation" among them; companions: what learns beside the model.
    """

    model: nn.Module
    data: TensorRows
    losses_of: LossesOf
    parts: dict[str, TensorRows]
    companions: dict[str, Stateful] = field(default_factory=dict)


def fit(job: Job, run: Run, state: dict[str, Any] | None = None, track: Tracker = untracked) -> None:
    """Train `job.model` in place; after each epoch `run` records the average of its weights.

    The average is to be kept after every epoch or, with `patience`, when its validation loss is the least yet.
    Every epoch draws from a random state of its own, so that a run resumed from `state` repeats the uninterrupted one.
    Raises TrainingDivergedError, with the step or the epoch, where the loss is not finite, and ToolkitError where the
    state is of other data.
    """
    options = run.options
    learner = Learner(job, options)
    done, best = 0, Best(math.inf, 0)
    data = {name: rows.sha256() for name, rows in {"train": job.data, **job.parts}.items()}
    if state is not None:
        _check_same(data, state.get("data", {}), run)
        learner.load_state_dict(state)
        done, best = state["epoch"], Best(*state["best"])

    def progress(epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, "best": [best.loss, best.epoch], "data": data, **learner.state_dict()}

    if state is None:
        run.begin(progress(0))
    try:
        for epoch in range(done, options.total_epochs):
            if options.patience and epoch - best.epoch >= options.patience:
                run.report(f"no better validation loss since epoch {best.epoch}: stopping")
                break
            started = time.monotonic()
            losses = {"train": learner.learn(epoch, track)}
            found = learner.found()
            for part, rows in job.parts.items():
                losses[part] = mean_losses(found, rows, job.losses_of, options)
            _check_finite(losses, epoch + 1, learner.steps)
            kept = not options.patience or losses["validation"]["loss"] < best.loss
            if kept:
                best = Best(losses["validation"]["loss"], epoch + 1)
            record = {
                "epoch": epoch + 1,
                "lr": options.learning_rate(epoch),
                **losses,
                "kept": kept,
                "seconds": round(time.monotonic() - started, 2),
            }
            run.record(found, record, progress(epoch + 1))
    except TrainingDivergedError as error:
        path = snapshot_path(run.checkpoint)
        raise TrainingDivergedError(f"{error}: remove {path} and try a lower --lr") from error


class Learner:
    """All that an epoch changes: the network, the average of its weights, the optimiser, what learns beside them."""

    def __init__(self, job: Job, options: Options) -> None:
        """ToolkitError where the examples do not fill a batch, or a batch is not divided evenly among the processes."""
        self._options, self._model = options, job.model
        self._losses_of = torch.compile(job.losses_of) if options.compile else job.losses_of
        self._batches = EpochBatches(job.data, options)
        self._average = WeightAverage(job.model, options.ema_decay, options.initial_share)
        self._rounding = Rounding(job.model, options.quantize)
        self._optimiser = optimiser_of(job.model, options)
        self._stateful: dict[str, Stateful] = {"model": job.model, "average": self._average, **job.companions}

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        states = {name: each.state_dict() for name, each in self._stateful.items()}
        return {"optimiser": self._optimiser.state_dict(), "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state that state_dict gave."""
        for name, each in self._stateful.items():
            each.load_state_dict(state["states"][name])
        snapshots.load_optimiser(self._optimiser, state["optimiser"])

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self._batches)

    def found(self) -> nn.Module:
        """The averaged network, rounded where options say so."""
        return self._rounding.of(self._average.network())

    def learn(self, epoch: int, track: Tracker) -> dict[str, float]:
        """One pass over the data; returns the mean losses."""
        torch.manual_seed(epoch_seed(self._options.seed, epoch))
        self._model.train()
        sums = defaultdict[str, Tensor](lambda: torch.zeros((), device=self._options.device))
        steps = self.steps
        batches = track(self._batches.batches(epoch), steps, f"epoch {epoch + 1}/{self._options.total_epochs}")
        for step, batch in enumerate(batches, start=epoch * steps):
            for name, value in self._step(batch, step, step / steps).items():
                sums[name] += value.detach()
        means = {name: parallel.mean(value).item() / steps for name, value in sums.items()}
        # Where gradients do not say them, SOAP has its eigenvectors from rounding: processes would drift apart.
        parallel.same([self._model.state_dict(), self._average.state_dict(), self._optimiser.state])
        return means

    def _step(self, batch: tuple[Tensor, ...], step: int, epochs: float) -> Losses:
        """Learn from one batch, at the rate of so many epochs; returns its losses."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._options.learning_rate(epochs)
        with self._rounding.applied():
            with self._options.autocast():
                losses = self._losses_of(self._model, tuple(tensor.to(self._options.device) for tensor in batch))
            joined = parallel.mean(losses["loss"].detach())
            if not torch.isfinite(joined):
                raise TrainingDivergedError(f"the loss is {joined.item()} at step {step}")
            self._optimiser.zero_grad()
            losses["loss"].backward()
        parallel.average_gradients(self._model.parameters())
        if self._options.clip:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._options.clip)
        self._optimiser.step()
        self._average.update(self._model)
        return losses


def _check_same(data: dict[str, str], before: dict[str, str], run: Run) -> None:
    """Refuse to go on with other data than a training began with; both by name, as hashes."""
    for name, sha256 in data.items():
        if before.get(name) != sha256:
            raise ToolkitError(
                f"the {name} data have changed since the interrupted training began, or it did not note them: "
                f"put back what they were, or remove {snapshot_path(run.checkpoint)}"
            )


def optimiser_of(model: nn.Module, options: Options) -> torch.optim.Optimizer:
    """What options say, for all parameters of a model."""
    if options.optimizer == "soap":
        return Soap(model.parameters(), options.lr)
    return torch.optim.AdamW(model.parameters(), options.lr, fused=True)


def _check_finite(losses: dict[str, dict[str, float]], epoch: int, steps: int) -> None:
    """Refuse to go on, and to keep the epoch's weights, where a measured loss is not finite."""
    for part, found in losses.items():
        if not math.isfinite(found["loss"]):
            raise TrainingDivergedError(
                f"the {part} loss is {found['loss']} after epoch {epoch}, {epoch * steps} steps"
            )


@dataclass(frozen=True)
class Best:
    """The least validation loss so far, and after which epoch."""

    loss: float
    epoch: int


def mean_losses(model: nn.Module, data: TensorRows, losses_of: LossesOf, options: Options) -> dict[str, float]:
    """The losses over a whole set, weighted by batch size, with the same random numbers at every call."""
    sums: dict[str, float] = defaultdict(float)
    devices = [options.device] if options.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), parallel.alone():
        torch.manual_seed(options.seed)
        for rows in torch.arange(len(data)).split(MEASURING_BATCH):
            batch = tuple(tensor.to(options.device) for tensor in data[rows.tolist()])
            for name, value in losses_of(model, batch).items():
                sums[name] += value.item() * len(rows) / len(data)
    return dict(sums)
