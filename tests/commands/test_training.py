"""From images to a bundle by the commands, on few images and small networks."""

import json

import pytest

from tests.commands.test_cli import error_line, run

TINY = ["--batch-size", 32, "--total-epochs", 1, "--threads", 1]
TINY_AUTOENCODER = ["--dim1", 4, "--dim2", 4, "--dim3", 2, "--n_layers", 1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    """A folder with dev checkpoints of a VAE and its flow."""
    folder = tmp_path_factory.mktemp("trained")
    train = run("train", "--model", "vae", "--root", root, *TINY, *TINY_AUTOENCODER, cwd=folder, torch=True)
    assert "epoch 1: train loss" in train.stdout
    assert "test loss" in train.stdout
    run(
        "encode-dataset",
        "--model",
        "vae",
        "--model-version",
        "dev",
        "--root",
        root,
        "--latents",
        "z.safetensors",
        cwd=folder,
        torch=True,
    )
    flow = [
        "train",
        "--model",
        "flow",
        "--autoencoder",
        "vae",
        "--latents",
        "z.safetensors",
        *TINY,
        "--dim1",
        8,
        "--n_layers=1",
    ]
    run(*flow, cwd=folder, torch=True)
    return folder


DEV = ["--model", "vae", "--model-version", "dev", "--autoencoder-version", "dev"]


def test_dev_checkpoints_generate_and_test(trained, root):
    result = run("generate", *DEV, "--height", 1, "--width", 2, "--output", "dev.png", cwd=trained, torch=True)
    assert (trained / "dev.png").is_file()
    assert "temporary bundle" in result.stderr
    found = json.loads(run("test", *DEV, "--root", root, "--json", cwd=trained, torch=True).stdout)
    assert found["model_version"] == "dev"
    assert "kl" in found["losses"]


def test_reconstruction_needs_no_flow(trained, root):
    (trained / "checkpoints/MNIST/dev/vae-flow.safetensors").rename(trained / "away")
    try:
        words = ["test-reconstruction", "--model", "vae", "--model-version", "dev", "--root", root, "--height", 1]
        run(*words, cwd=trained, torch=True)
    finally:
        (trained / "away").rename(trained / "checkpoints/MNIST/dev/vae-flow.safetensors")


def test_log_has_a_line_an_epoch(trained):
    lines = (trained / "checkpoints/MNIST/dev/vae.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    assert len(lines) == 1
    assert record["epoch"] == 1
    assert record["train"]["loss"] > 0
    assert record["test"]["loss"] > 0


def test_export_writes_a_bundle_that_runs_without_torch(trained):
    line = run("export", *DEV, "--weight", 2, "--steps", 3, cwd=trained, torch=True).stdout
    assert "off torch" in line
    run("generate", "--height", 1, "--width", 1, "--output", "main.png", cwd=trained)
    detail = json.loads(run("info", "models_onnx/MNIST", "--json", cwd=trained).stdout)["bundles"][0]
    assert detail["defaults"]["weight"] == 2
    assert detail["defaults"]["steps"] == 3
    assert max(facts["largest_error"] for facts in detail["files"].values()) <= 1e-5


def test_main_is_replaced_only_when_agreed(tmp_path, root):
    words = ["train", "--model", "autoencoder", "--root", root, *TINY, *TINY_AUTOENCODER]
    run(*words, cwd=tmp_path, torch=True)
    assert not (tmp_path / "checkpoints/MNIST/main").exists()
    run(*words, "--promote", cwd=tmp_path, torch=True)
    assert (tmp_path / "checkpoints/MNIST/main/autoencoder.safetensors").is_file()
    assert (tmp_path / "checkpoints/MNIST/main/autoencoder.jsonl").is_file()
    again = run(
        "train", "--model", "autoencoder", "--model-version", "main", "--root", root, *TINY, cwd=tmp_path, torch=True
    )
    assert "going on from" in again.stderr


def test_a_flow_of_another_autoencoder_is_refused(trained, root, tmp_path):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "copy")
    run("train", "--model", "vae", "--root", root, *TINY, *TINY_AUTOENCODER, "--seed", 9, cwd=folder, torch=True)
    assert "another autoencoder" in error_line(run("generate", *DEV, cwd=folder, status=1, torch=True))


def test_damaged_checkpoints_and_latents_are_named(trained, tmp_path):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "copy")
    checkpoint = folder / "checkpoints/MNIST/dev/vae-flow.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert "vae-flow.safetensors" in error_line(run("generate", *DEV, cwd=folder, status=1, torch=True))
    (folder / "z.safetensors").write_bytes(b"nothing")
    words = ["train", "--model", "flow", "--autoencoder", "vae", "--latents", "z.safetensors"]
    assert "z.safetensors" in error_line(run(*words, cwd=folder, status=1, torch=True))


@pytest.mark.parametrize("dataset", [["EMNIST", "balanced"], ["EMNIST", "byclass"], ["FashionMNIST", "balanced"]])
def test_other_data_sets_go_the_whole_way(tmp_path, root, dataset):
    which = ["--dataset", dataset[0], "--split", dataset[1]]
    run(
        "train",
        "--model",
        "autoencoder",
        *which,
        "--root",
        root,
        *TINY,
        *TINY_AUTOENCODER,
        "--promote",
        cwd=tmp_path,
        torch=True,
    )
    run(
        "encode-dataset",
        "--model",
        "autoencoder",
        *which,
        "--root",
        root,
        "--latents",
        "z.safetensors",
        cwd=tmp_path,
        torch=True,
    )
    flow = [
        "train",
        "--model",
        "flow",
        "--autoencoder",
        "autoencoder",
        *which,
        "--latents",
        "z.safetensors",
        *TINY,
        "--promote",
    ]
    run(*flow, "--backbone", "conv", "--dim1", 4, "--n_layers", 1, "--n_heads", 2, cwd=tmp_path, torch=True)
    run("export", "--model", "autoencoder", *which, cwd=tmp_path, torch=True)
    run("generate", *which, "--labels", 0, "9", "--output", "page.png", "--height", 1, cwd=tmp_path)
    found = json.loads(run("test", *which, "--root", root, "--json", cwd=tmp_path).stdout)
    assert found["images"] == 120
