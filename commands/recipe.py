"""``train --recipe``: all stages of a shipped model, from one TOML file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from commands import recipe_files
from commands.encode_dataset import encode
from commands.export import bundle_target, write_bundle
from commands.models import default_kind
from commands.progress import note
from commands.train import Training, train
from commands.training_options import LOSS, RUN
from commands.training_processes import agreed
from export.bundles import replaceable
from export.sources import Source
from training import checkpoints, parallel
from training.engine import snapshots
from training.options import Options, SamplerOptions
from training.paths import CLASSIFIER, DECODER, Version, flow_name, generator_name, interrupted

ENCODING_BATCH = 500


def run_recipe(
    name: str,
    root: Path,
    latents: Path | None,
    device: torch.device,
    num_workers: int,
    promote: bool | None,
    resume: bool = False,
) -> str:
    """Train what the recipe has tables of: autoencoder, classifier, flow and its stages, generator; returns a line.

    Where the user agrees to replace the main checkpoints, they are exported to the data set's bundle. With `resume`
    stages that are complete are passed over, and the one that was interrupted goes on.
    """
    recipe = recipe_files.read(name)
    dataset = recipe_files.dataset_of(recipe)
    if not resume and parallel.is_first() and (left := interrupted(dataset.model_name)):
        raise snapshots.left(left[0])
    if promote is None:
        promote = agreed(f"Replace the main checkpoints and the bundle of {dataset.model_name}?")
    exported = dict(recipe["export"])
    storage, packed = exported.pop("quantize", "float32"), exported.pop("packed", False)
    if promote:
        replaceable(bundle_target(dataset, packed))  # or hours would be spent in vain
    sampler = SamplerOptions(**exported)
    kind = recipe["autoencoder"]["model"] if "autoencoder" in recipe else default_kind(dataset)
    stages = _Stages(
        name, recipe, Options(device=device, num_workers=num_workers, resume=resume),
        {"dataset": dataset, "root": root, "latents": latents},
    )  # fmt: skip
    trained = []
    if "autoencoder" in recipe:
        _check_given(recipe, kind, len(dataset.classes))
        stages.autoencoder(kind)
        stages.classifier()
        stages.flow(kind)
        trained += [kind, flow_name(kind)]
    if "distillation" in recipe:
        stages.generator(kind, "dev" if dataset.size == "base" and trained else "main")
        trained.append(generator_name(kind))
    if not promote:
        return f"{stages.line}; --promote would have replaced the main checkpoints and the bundle"
    if not parallel.is_first():
        return stages.line
    click.echo(stages.line)
    for each in trained:
        checkpoints.promote(dataset.model_name, each)
    return write_bundle(Source(dataset, kind), None, sampler, storage, packed)


def _check_given(recipe: dict[str, Any], kind: str, classes: int) -> None:
    """CheckpointError where what is taken from other models is not there, or does not fit."""
    autoencoder, flow = (
        checkpoints.existing(recipe[table]["from"], name) if "from" in recipe[table] else None
        for table, name in (("autoencoder", kind), ("flow", flow_name(kind)))
    )
    if autoencoder is not None and flow is not None:
        checkpoints.load_fitting(autoencoder, flow, classes)


@dataclass
class _Stages:
    """The trainings of a recipe, one after the other; line: what the last one came to."""

    name: str
    recipe: dict[str, Any]
    run: Options
    common: dict[str, Any]  # fields of every Training
    line: str = ""

    def autoencoder(self, kind: str) -> None:
        """Train the autoencoder, or take another model's, and encode the images where the flow learns from them."""
        if not self._adopts("autoencoder", kind):
            self._train("autoencoder", self.recipe["autoencoder"], kind)
        if "from" in self.recipe["flow"] and "flow_stages" not in self.recipe:
            return
        if parallel.is_first():
            dataset, latents, device = self.common["dataset"], self.common["latents"], self.run.device
            click.echo(encode(dataset, self.common["root"], kind, "dev", latents, ENCODING_BATCH, device))
        parallel.wait()

    def classifier(self) -> None:
        """Train what the flow learns classes from, where there is such a thing."""
        if CLASSIFIER in self.recipe:
            self._train(CLASSIFIER, self.recipe[CLASSIFIER], CLASSIFIER)

    def flow(self, kind: str) -> None:
        """Train the flow, or take another model's, and go on from it in every stage of flow_stages."""
        of_all: dict[str, Any] = {"autoencoder": kind}
        if not self._adopts("flow", flow_name(kind)):
            self._train("flow", self.recipe["flow"], "flow", **of_all)
        for table in recipe_files.further_stages(self.recipe, "flow_stages"):
            model = table.pop("model", "flow")
            before = "teacher_version" if model == DECODER else "initial"
            self._train(table["name"], table, model, **of_all, **{before: "dev"})

    def generator(self, kind: str, teacher: Version) -> None:
        """Distil a generator, and go on from it in every stage of generator_stages."""
        of_all: dict[str, Any] = {"autoencoder": kind, "teacher_version": teacher}
        self._train("distillation", self.recipe["distillation"], "generator", **of_all)
        for table in recipe_files.further_stages(self.recipe, "generator_stages"):
            self._train(table["name"], table, "generator", **of_all, initial="dev")

    def _adopts(self, stage: str, name: str) -> bool:
        """Whether the checkpoint of a stage is another model's, which its table says by "from"; it is taken then."""
        other, model = self.recipe[stage].get("from"), self.common["dataset"].model_name
        if other is not None and parallel.is_first():
            _note(f"{self.name}: taking the {name} of {other}")
            if not (self.run.resume and checkpoints.goes_on_from(other, model, name)):
                checkpoints.adopt(other, model, name)
        parallel.wait()
        return other is not None

    def _train(self, stage: str, table: dict[str, Any], model: str, **more: Any) -> None:
        if self.line:
            _note(self.line)
        _note(f"{self.name}: {stage}")
        table = {key: value for key, value in table.items() if key != "name"} | {"model": model}
        if "sampler" in table:
            table["sampler"] = SamplerOptions(**table["sampler"])
        self.line = train(_training(table, self.run, **self.common, **more), promote=False)


def _note(text: str) -> None:
    if parallel.is_first():
        note(text)


def _training(stage: dict[str, Any], run: Options, **common: Any) -> Training:
    """A stage's table to what it trains: keys of Options, of its objective, and of Training."""
    of_options = {key: value for key, value in stage.items() if key in RUN}
    loss = {key: value for key, value in stage.items() if key in (*LOSS, "sampler")}
    rest = {key: value for key, value in stage.items() if key not in of_options | loss}
    return Training(options=replace(run, **of_options), loss=loss, **rest, **common)
