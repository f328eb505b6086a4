"""What ships, beside the checkpoints and recipes that it comes from."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import runtime
from commands import recipe_files
from commands.training_options import SAMPLER
from export.sources import before
from runtime import bundle as bundles
from runtime import places
from runtime.manifests import ONE_CALL
from runtime.sampling import diffusion_of
from tests.recipes import trainings
from training import checkpoints, paths
from training.networks.autoencoders import AUTOENCODERS
from training.networks.flows import Flow
from training.networks.generators import Generator
from training.options import DRAWING_WEIGHTS, FlowObjective, Options
from training.paths import DECODER

# Generators whose teachers drew by another solver when they taught than recipes say that they do now.
TAUGHT_OTHERWISE = {
    "MNIST-nano",
    "EMNIST-balanced-nano",
    "FashionMNIST-nano",
}
# Began with a main model from before its decoder was narrowed, and so without that many of its flow's last trainings.
WITHOUT = {"MNIST-compact": 10}
OF_DEFAULTS = {"sampler": "solver"}  # names of a recipe's keys among a bundle's defaults
NONE = "\N{EN DASH}"  # in a table
DEFAULTS = {**asdict(FlowObjective()), **Options().described()}  # of what older trainings do not say


@pytest.mark.parametrize("name", places.shipped())
def test_a_shipped_bundle_was_exported_from_the_shipped_checkpoints(name):
    provenance = bundles.read(name).manifest["provenance"]
    shipped = Path(__file__).parents[2] / "checkpoints" / name / "main"
    files = {"flow": "vae-flow", "generator": "vae-generator", "vae": "vae"}
    found = {part: paths.sha256(shipped / f"{file}.safetensors") for part, file in files.items() if part in provenance}
    assert found
    assert found == {part: provenance[part]["sha256"] for part in found}


def _stages(recipe, first, further):
    """The tables of all trainings of a flow or a generator, of a recipe and of that which it goes on from."""
    other = recipe[first].get("from")
    before = _stages(recipe_files.read(other), first, further) if other else [recipe[first]]
    before = before[: len(before) - WITHOUT.get(recipe_files.dataset_of(recipe).model_name, 0)]
    return [*before, *(each for each in recipe_files.further_stages(recipe, further) if each.get("model") != DECODER)]


def _check_trainings(description, stages, of_sampler=tuple(SAMPLER)):
    """What is said of a training, and of those before it, is what the recipe's stages say; of_sampler: keys of that."""
    for table, training in zip(stages[::-1], trainings(description), strict=True):
        told = {**table, "classifier_version": bool(table.get("classifier_version"))}
        said = {key: value for key, value in training.items() if value is not None}
        found = {**DEFAULTS, **said, "classifier_version": bool(training.get("learns_from"))}
        for key in told.keys() - {"name", "network", "sampler"}:
            assert (key, found[key]) == (key, told[key])
        if "teacher" in training or any(table.get(name) for name in DRAWING_WEIGHTS):
            told, found = _settled(table["sampler"]), _settled(training["sampler"])
            assert {key: found[key] for key in of_sampler} == {key: told[key] for key in of_sampler}


def _settled(way):
    """A sampler with the diffusion that it has, and the solver that older trainings don't name."""
    solver = way.get("sampler", "heun")
    return {**way, "sampler": solver, "diffusion": diffusion_of(solver, way.get("diffusion"))}


@pytest.mark.parametrize("name", places.shipped())
def test_a_shipped_bundle_is_as_its_recipe_says(name):
    shipped = bundles.read(name)
    wanted = recipe_files.read(name)
    provenance = shipped.manifest["provenance"]
    assert recipe_files.dataset_of(wanted).model_name == name
    assert shipped.manifest["storage"] == wanted["export"].pop("quantize", "float32")
    assert shipped.path.is_file() == wanted["export"].pop("packed", False)
    reads = "autoencoder" in wanted
    for key, value in _settled(wanted["export"]).items():
        assert getattr(shipped.defaults, OF_DEFAULTS.get(key, key)) == value or (not reads and key != "weight")
    if "distillation" in wanted:
        generator = checkpoints.load(paths.checkpoint_path(name, "main", "vae-generator"), Generator)
        stages = _stages(wanted, "distillation", "generator_stages")
        description = generator.description | before(generator.description, lambda name: True)
        _check_trainings(description, stages, ("weight",) if name in TAUGHT_OTHERWISE else tuple(SAMPLER))
    assert ("flow" in provenance) == reads
    if not reads:
        return
    _check_trainings(provenance["flow"], _stages(wanted, "flow", "flow_stages"))
    base = recipe_files.read(wanted["autoencoder"].get("from", name))
    autoencoder, history = base["autoencoder"], provenance[base["autoencoder"]["model"]]
    widths = autoencoder["network"]
    for stage in base["flow_stages"]:
        widths |= stage.get("network", {}) if name not in WITHOUT else {}
    assert history["network"].items() >= widths.items()
    assert AUTOENCODERS[autoencoder["model"]](**history["network"])  # as bench does
    assert Flow(**provenance["flow"]["network"])
    assert trainings(history)[-1]["alpha"] == autoencoder["alpha"]


def test_the_mnist_model_is_as_small_as_it_says():
    manifest = bundles.read("MNIST").manifest
    folder = places.SHIPPED.parent / "checkpoints" / "MNIST" / "main"
    parameters = sum(
        sum(p.numel() for p in checkpoints.load(folder / file, torch.nn.Module).network.parameters())
        for file in ("vae.safetensors", "vae-flow.safetensors")
    )
    assert manifest["parameters"] == parameters <= 98_000
    assert manifest["files"]["decoder.onnx"]["multiply_adds"] < 600_000
    assert manifest["files"]["generate.onnx"]["multiply_adds"] < 800_000
    assert np.isclose(sum(manifest["dataset"]["prior"]), 1)


def test_the_pictures_are_of_what_ships():
    found = set()
    for path in (Path(__file__).parents[2] / "docs").glob("*.png"):
        with Image.open(path) as picture:
            said = picture.text.get("parameters")
        if said is not None:
            drawn = json.loads(said)
            assert (path.name, drawn["checksum"]) == (path.name, bundles.read(drawn["bundle"]).checksum)
            found.add(drawn["bundle"])
    assert found == set(places.shipped()) - {"MNIST-compact"}


README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
RUNGS = Path(__file__).parents[2] / "docs" / "rungs"


def _rows(title):
    """The cells of a table of README.md, without its head, below a heading."""
    table = [line for line in README[README.index(title) :].split("\n\n")[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


def _rounded(value, digits=3):
    return f"{value + 1e-9:.{digits}f}"  # half up, as README has it


PACKED = " packed with its manifest"


def test_readme_has_the_figures_of_all_that_ships():
    rows = {row[0].strip("`"): row[1:] for row in _rows("### How small, how fast")}
    assert rows.keys() >= set(places.shipped())
    for name in places.shipped():
        bundle = bundles.read(name)
        manifest, found = bundle.manifest, bundle.manifest["measured"]
        kilobytes = (
            bundle.path.stat().st_size if bundle.path.is_file() else sum(map(len, bundle.graphs.values()))
        ) / 1024
        reads = manifest["files"].get("classify.onnx")
        assert rows[name] == [
            f"{manifest['parameters']:,}",
            "; ".join(f"{manifest['files'][file]['parameters']:,}" for file in ONE_CALL if file in manifest["files"]),
            f"{kilobytes:.0f}{PACKED if bundle.path.is_file() else ''}, {manifest['storage']}",
            f"{manifest['files']['generate.onnx']['multiply_adds'] / 1e6:.2f} M",
            _rounded(found["fidelity"]),
            _rounded(found["frechet_multiple"], 1),
            f"{_rounded(found['recall'])} / {_rounded(found['coverage'])}",
            f"{reads['multiply_adds'] / 1e6:.1f} M" if reads else NONE,
            _rounded(found["accuracy"], 4) if reads else NONE,
        ]


def test_readme_has_the_sizes_of_what_is_packed_and_of_the_smallest(tmp_path):
    mnist, path = bundles.read("MNIST"), tmp_path / "MNIST.tar.xz"
    bundles.pack(mnist, path)
    packed = round(path.stat().st_size / 1024)
    assert f"one file, {packed} KB instead of {_kilobytes(mnist):.0f}," in README
    assert f"where `MNIST` packed has {packed}." in README
    assert f"**1,070 weights**, {_kilobytes(bundles.read('MNIST-nano')):.2f} KB with its manifest" in README


def _kilobytes(bundle):
    """Of a bundle's folder."""
    return sum(file.stat().st_size for file in bundle.path.iterdir()) / 1024


MAIN = ["MNIST", "EMNIST-balanced", "EMNIST-byclass", "FashionMNIST"]


def test_readme_has_the_figures_of_the_main_models():
    rows = {row[0]: row[1:] for row in _rows("## What the shipped models do")[:6]}
    for column, name in enumerate(MAIN):
        found = bundles.read(name).manifest["measured"]
        cells = {title: row[column].split()[0] for title, row in rows.items()}
        names = ["fidelity", "frechet_multiple", "precision", "recall", "density", "coverage"]
        wanted = [_rounded(found[each], 1 if each == "frechet_multiple" else 3) for each in names]
        assert list(cells.values()) == wanted


def test_readme_has_what_the_second_evaluator_finds():
    names = ["fidelity", "frechet_multiple", "recall", "coverage"]
    rows = [row[1:] for row in _rows("## What the shipped models do")[6 : 6 + len(names)]]
    for column, name in enumerate(MAIN):
        found = bundles.read(name).manifest["measured"]["second"]
        wanted = [_rounded(found[each], 1 if each == "frechet_multiple" else 3) for each in names]
        assert [row[column].split()[0] for row in rows] == wanted


@pytest.mark.parametrize("path", sorted(RUNGS.glob("*")), ids=lambda path: path.name)
def test_a_rung_that_does_not_ship_draws_and_is_told_of(path):
    model = runtime.load(path)
    assert model.generate([0]).max() > 127
    manifest = model.bundle.manifest
    first, second = (
        f"{100 * each['coverage']:.0f} %" for each in (manifest["measured"], manifest["measured"]["second"])
    )
    assert re.search(rf"\b{manifest['parameters']:,}\b.{{,70}}\b{first} \({second}\)", README)
    assert f"--bundle docs/rungs/{path.name} " in manifest["measured"]["command"]
