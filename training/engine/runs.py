"""One training: what it is given, and its files: checkpoint, log, and the snapshot from which it can be resumed."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.datasets import Dataset
from runtime.errors import ToolkitError
from runtime.files import written_aside
from runtime.tracking import Tracker, untracked
from training import checkpoints, parallel
from training.checkpoints import Checkpoint
from training.engine import snapshots
from training.options import Options
from training.paths import checkpoint_path, log_path, snapshot_path


@dataclass(frozen=True)
class Task:
    """What every training is given: on what data, which network, how, and whom to tell.

    root: where the images lie; arguments: the network's constructor's, unless the training goes on from a checkpoint,
    whose arguments then count.
    """

    dataset: Dataset
    root: Path
    arguments: dict[str, Any]
    options: Options
    report: Callable[[str], None] = print
    track: Tracker = untracked

    def run(
        self,
        name: str,
        initial: Checkpoint[Any] | None,
        identity: dict[str, Any],
        of_data: dict[str, int] | None = None,
        **more: Any,
    ) -> Run:
        """The run that writes the dev checkpoint `name`, going on from `initial`.

        identity: what tells it from other runs, beside what all have; of_data: arguments that the data decide; more:
        fields of the Run.
        """
        arguments = initial.arguments if initial else self.arguments | (of_data or {})
        common = {"dataset": self.dataset.key, "network": arguments, "fresh": initial is None}
        return Run(
            checkpoint_path(self.dataset.model_name, "dev", name),
            common | identity,
            arguments,
            self.options,
            self.report,
            initial=initial.description if initial else None,
            **more,
        )


@dataclass
class Run:
    """What is trained and how; identity: the JSON values that tell it from another, beside those of options.

    facts: what else the checkpoint's description says; initial: the description of the checkpoint it goes on from,
    which becomes its "before"; part: the name of the part of what is trained that the checkpoint holds ("": all);
    beside: runs of its other parts, which have the same log. Where processes train together only the first
    writes.
    """

    checkpoint: Path
    identity: dict[str, Any]
    arguments: dict[str, Any]
    options: Options
    report: Callable[[str], None] = print
    facts: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, Any] | None = None
    part: str = ""
    beside: tuple[Run, ...] = ()
    _log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identity = json.loads(json.dumps(self.identity | self.options.described()))
        if not parallel.is_first():
            self.report = lambda line: None
        if self.initial is not None:
            self.facts["before"] = self.initial

    def is_complete(self) -> bool:
        """Whether this very run is to be resumed and has come to its end before, or even another went on from it.

        Then it says so. One that has left a snapshot has not: it may go on from what an equal one had come to.
        """
        if not self.options.resume or not self.checkpoint.is_file() or self._was_interrupted():
            return False
        description: dict[str, Any] | None = checkpoints.load(self.checkpoint, nn.Module).description
        while description is not None:
            if description.get("complete", False) and not self._different(description):
                self.report(f"{self.checkpoint} is complete")
                return True
            description = description.get("before")
        return False

    def state(self) -> dict[str, Any] | None:
        """The snapshot to resume from, or None where there is none, or one that is not asked for.

        Raises ToolkitError where it is asked for and the interrupted run was another one, or not and there is one.
        """
        path = snapshot_path(self.checkpoint)
        if not self.options.resume:
            if parallel.is_first() and path.is_file():
                raise snapshots.left(path)
            return None
        if not path.is_file():
            return None
        state = snapshots.read(path)
        different = self._different(state["identity"])
        if different:
            raise ToolkitError(f"the interrupted training had {different}: repeat its flags, or remove {path}")
        for run, before in zip((self, *self.beside), state["before"], strict=True):
            if before is not None:  # what the dev checkpoint holds now may be this run's own
                run.facts["before"] = before
        self._log = self._lines_before(state["epoch"])
        self.report(f"going on after epoch {state['epoch']}")
        return state

    def begin(self, state: dict[str, Any]) -> None:
        """Write the state to resume from before the first epoch, whose checkpoint may take the place of the initial."""
        if parallel.is_first():
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self._write_snapshot(state)

    def record(self, network: nn.Module, record: dict[str, Any], state: dict[str, Any]) -> None:
        """Write an epoch's record to the log, its network where it is the one to keep, and the state to resume from."""
        if not parallel.is_first():
            return
        self._log.append(json.dumps(record))
        for run in (self, *self.beside):
            with written_aside(log_path(run.checkpoint)) as aside:
                aside.write_text("".join(f"{line}\n" for line in self._log))
        if record["kept"]:
            for run in (self, *self.beside):
                run.save(network.get_submodule(run.part), record, complete=False)
        self._write_snapshot(state)
        losses = "; ".join(f"{part} {in_words(found)}" for part, found in record.items() if isinstance(found, dict))
        self.report(f"epoch {record['epoch']}: {losses}; {record['seconds']:.1f} s")

    def finish(self, **more: Any) -> None:
        """Mark the kept checkpoint complete, with more facts, and forget the snapshot.

        Raises ToolkitError where another training has written the checkpoint meanwhile.
        """
        if not parallel.is_first():
            return
        self.facts |= more
        for run in (self, *self.beside):
            kept = checkpoints.load(run.checkpoint, nn.Module)
            if different := run._different(kept.description):
                raise ToolkitError(f"{run.checkpoint} is another training's, which ran beside this one: {different}")
            run.save(kept.network, kept.description["last_epoch"], complete=True)
        if self._was_interrupted():
            snapshot_path(self.checkpoint).unlink()

    def save(self, network: nn.Module, record: dict[str, Any], complete: bool) -> None:
        """Write the checkpoint with the description of its training."""
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        record = {name: value for name, value in record.items() if name != "seconds"}  # or else no two files are equal
        description = {
            **self.identity, **self.facts, "versions": versions, "last_epoch": record, "complete": complete
        }  # fmt: skip
        checkpoints.save(Checkpoint(network, self.arguments, description), self.checkpoint)

    def _lines_before(self, epochs: int) -> list[str]:
        """The log of so many epochs; ToolkitError where it is damaged or gone."""
        path = log_path(self.checkpoint)
        try:
            lines = path.read_text("utf-8").splitlines()[:epochs] if epochs else []
        except (OSError, ValueError) as error:
            raise ToolkitError(f"{path} can't be read: {error}") from error
        if len(lines) < epochs:
            raise ToolkitError(f"{path} has {len(lines)} lines where {epochs} epochs were logged")
        return lines

    def _write_snapshot(self, state: dict[str, Any]) -> None:
        before = [run.facts.get("before") for run in (self, *self.beside)]
        snapshots.write(snapshot_path(self.checkpoint), {"identity": self.identity, "before": before, **state})

    def _was_interrupted(self) -> bool:
        """Whether there is a snapshot of this very run."""
        path = snapshot_path(self.checkpoint)
        return path.is_file() and not self._different(snapshots.read(path)["identity"])

    def _different(self, before: dict[str, Any]) -> str:
        """The first thing in which another run's identity differs, in words."""
        for name, value in self.identity.items():
            if before.get(name) != value:
                return f"{name} {before.get(name)}, not {value}"
        return ""


def in_words(losses: dict[str, float]) -> str:
    """Named figures in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
