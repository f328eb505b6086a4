import tomllib
from pathlib import Path

import click
import pytest
import torch

from commands import recipe
from runtime import bundle as bundles
from runtime.datasets import DATASETS

TINY = """
dataset = "MNIST"
[autoencoder]
model = "vae"
total_epochs = 1
batch_size = 64
alpha = 0.5
[autoencoder.network]
dim1 = 4
dim2 = 4
n_layers = 1
[flow]
total_epochs = 1
batch_size = 64
milestones = [1]
sample_latents = true
[flow.network]
dim1 = 8
n_layers = 1
[export]
steps = 3
weight = 1.5
diffusion = 0.5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(root, promote):
    return recipe.run_recipe("tiny", root, Path("z.safetensors"), torch.device("cpu"), 0, promote)


def test_a_recipe_goes_from_images_to_a_bundle(folder, root):
    assert "off torch" in run(root, promote=True)
    bundle = bundles.read(folder / "models_onnx" / "MNIST")
    assert (bundle.defaults.steps, bundle.defaults.weight, bundle.defaults.diffusion) == (3, 1.5, 0.5)
    assert bundle.manifest["provenance"]["vae"]["alpha"] == 0.5
    assert bundle.manifest["provenance"]["flow"]["milestones"] == [1]
    assert bundle.manifest["provenance"]["flow"]["sample_latents"]


def test_without_agreement_nothing_main_is_touched(folder, root):
    assert "--promote" in run(root, promote=False)
    assert not (folder / "checkpoints/MNIST/main").exists()
    assert not (folder / "models_onnx").exists()


def test_unknown_recipes_list_the_known(folder):
    with pytest.raises(click.UsageError, match="tiny"):
        recipe.run_recipe("huge", folder, None, torch.device("cpu"), 0, True)


def test_shipped_bundles_have_the_defaults_of_their_recipes():
    for name in bundles.shipped():
        shipped = bundles.read(name)
        wanted = tomllib.loads((recipe.FOLDER / f"{name}.toml").read_text())
        assert wanted["dataset"] == DATASETS[name].name
        for key, value in wanted["export"].items():
            assert getattr(shipped.defaults, key) == value
        assert shipped.manifest["provenance"]["flow"]["total_epochs"] == wanted["flow"]["total_epochs"]
        assert shipped.manifest["provenance"][wanted["autoencoder"]["model"]]["alpha"] == wanted["autoencoder"]["alpha"]
