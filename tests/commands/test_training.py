"""From images to a bundle by the commands, on few images and small networks."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import fields

import click
import pytest
import torch

from commands import options, train, training_options
from commands.options import BITS
from tests.command_line import PROJECT, error_line, run, start
from training import checkpoints, tensor_files
from training.engine.rounding import LEVELS
from training.networks.autoencoders import AUTOENCODERS, AutoEncoder
from training.options import Options
from training.paths import KINDS

CLI = PROJECT / "tests/brief_cli.py"

TINY = "--batch-size 32 --total-epochs 1 --threads 1"
TINY_AUTOENCODER = "--dim1 4 --dim2 4 --dim3 2 --n_layers 1"
DEV = "--model vae --model-version dev --autoencoder-version dev"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    """A folder with dev checkpoints of a VAE and its flow."""
    folder = tmp_path_factory.mktemp("trained")
    train = run(f"train --model vae --root {root} {TINY} {TINY_AUTOENCODER}", folder, torch=True)
    assert "epoch 1: train loss" in train.stdout
    assert "test loss" in train.stdout
    run(f"encode-dataset --model vae --model-version dev --root {root} --latents z.safetensors", folder, torch=True)
    flow = f"train --model flow --autoencoder vae --latents z.safetensors {TINY} --pairs 2 --dim1 8 --n_layers=1"
    run(flow, folder, torch=True)
    return folder


def test_bits_that_commands_offer_are_those_that_weights_can_have():
    assert tuple(LEVELS) == BITS


def test_autoencoders_that_commands_offer_are_those_that_there_are():
    assert tuple(AUTOENCODERS) == KINDS


def test_latents_replace_nothing_else(trained, tmp_path, root):
    shutil.copytree(trained, tmp_path / "copy")
    words = (
        f"encode-dataset {DEV.partition(' --auto')[0]} --root {root} --latents checkpoints/MNIST/dev/vae.safetensors"
    )
    before = (trained / "checkpoints/MNIST/dev/vae.safetensors").read_bytes()
    assert "holds no latents: it is left as it is" in error_line(run(words, tmp_path / "copy", status=1, torch=True))
    assert (tmp_path / "copy/checkpoints/MNIST/dev/vae.safetensors").read_bytes() == before


def test_a_flow_of_another_encoder_does_not_become_the_main_one(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    folder = tmp_path / "copy/checkpoints/MNIST"
    (folder / "main").mkdir()
    found = checkpoints.load(folder / "dev/vae.safetensors", AutoEncoder)
    torch.nn.init.zeros_(next(found.network.encoder.parameters()))
    checkpoints.save(found, folder / "main/vae.safetensors")
    words = (
        f"train --model flow --autoencoder vae --latents z.safetensors {TINY} --dim1 8 --n_layers=1 --resume --promote"
    )
    result = run(words, tmp_path / "copy", status=1, torch=True)
    assert "latents of another encoder than checkpoints/MNIST/main/vae.safetensors has" in result.stderr
    assert not (folder / "main/vae-flow.safetensors").exists()


def test_what_a_flag_has_by_default_a_recipe_has_too():
    command = training_options.training_options(options.batch_size_option(options.seed_option(click.Command("train"))))
    by_flag = command.make_context("train", []).params
    assert (by_flag["batch_size"], by_flag["seed"]) == (Options.batch_size, Options.seed)
    for name in set(train.Training._of_flags()) & set(by_flag) - {"model", "root"}:
        assert by_flag[name] == getattr(train.Training, name), name
    of_objectives = [
        each for of in training_options.OBJECTIVES.values() for each in fields(of) if each.name != "sampler"
    ]
    for each in of_objectives:
        assert by_flag[each.name] == each.default, each.name


def test_dev_checkpoints_generate_and_test(trained, root):
    result = run(f"generate {DEV} --height 1 --width 2 --output dev.png", trained, torch=True)
    assert (trained / "dev.png").is_file()
    assert "in memory" in result.stderr
    found = json.loads(run(f"test {DEV} --root {root} --json", trained, torch=True).stdout)
    assert found["model_version"] == "dev"
    assert "kl" in found["losses"]


def test_reconstruction_needs_no_flow(trained, root, tmp_path):
    (tmp_path / "checkpoints/MNIST/dev").mkdir(parents=True)
    shutil.copy(trained / "checkpoints/MNIST/dev/vae.safetensors", tmp_path / "checkpoints/MNIST/dev")
    run(f"test-reconstruction --model vae --model-version dev --root {root} --height 1", tmp_path, torch=True)
    assert (tmp_path / "test-reconstruction-MNIST.png").is_file()


def test_log_has_a_line_an_epoch(trained):
    lines = (trained / "checkpoints/MNIST/dev/vae.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    assert len(lines) == 1
    assert record["epoch"] == 1
    assert record["train"]["loss"] > 0
    assert record["test"]["loss"] > 0


def test_export_writes_a_bundle_that_runs_without_torch(trained):
    line = run(f"export {DEV} --weight 2 --steps 3 --quantize float32", trained, torch=True).stdout
    assert "of pixels differ from torch's" in line
    run("generate --height 1 --width 1 --output main.png", trained)
    detail = json.loads(run("info models_onnx/MNIST --json", trained).stdout)["bundles"][0]
    assert detail["defaults"]["weight"] == 2
    assert detail["defaults"]["steps"] == 3
    assert max(facts["largest_error"] for facts in detail["files"].values()) <= 1e-5


def test_main_is_replaced_only_when_agreed(tmp_path, root):
    words = f"train --model autoencoder --root {root} {TINY}"
    run(f"{words} {TINY_AUTOENCODER}", tmp_path, torch=True)
    assert not (tmp_path / "checkpoints/MNIST/main").exists()
    again = run(f"{words} --model-version dev --promote", tmp_path, torch=True)
    assert "going on from" in again.stderr
    assert (tmp_path / "checkpoints/MNIST/main/autoencoder.safetensors").is_file()
    assert (tmp_path / "checkpoints/MNIST/main/autoencoder.jsonl").is_file()


FLOW = "--model flow --latents z.safetensors --autoencoder vae"
TRAININGS = {  # what is trained, and how
    "vae": ("vae", f"--model vae --shift 1 {TINY_AUTOENCODER}"),
    "flow": ("vae-flow", f"{FLOW} --sieve 4"),
    "generator": (
        "vae-generator",
        "--model generator --autoencoder vae --teacher-version dev --dim1 8 --n_layers 1 --dim2 4 --dim3 2 "
        "--optimizer soap",
    ),
    "tuning": ("vae-flow", f"{FLOW} --model-version dev --class-weight 0.3 --pairs 2 --shift 1"),
    "finishing": (
        "vae-flow",
        f"{FLOW} --model-version dev --class-weight 0.3 --pairs 2 --shift 1 --initial-share 0.5 --steps 2 --judges 2 "
        "--frechet-weight 0.05 --kernel-weight 1 --reading-weight 0.1 --detail-weight 0.01 --adversarial-weight 0.03",
    ),
    "decoder": (
        "vae",
        "--model decoder --autoencoder vae --teacher-version dev --dim2 3 --dim3 2 --dim4 1",
    ),
    "classifier": ("classifier", "--model classifier --shift 1 --distort 0.1 --width 2"),
}


@pytest.mark.parametrize("training", TRAININGS)
def test_a_killed_training_resumes_to_the_same_weights(trained, root, tmp_path, training):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    name, what = TRAININGS[training]
    words = f"train {what} --batch-size 32 --total-epochs 12 --threads 1 --no-promote --root {root}"
    for folder in (whole, cut):
        shutil.copytree(trained, folder)
        (folder / f"checkpoints/MNIST/dev/{name}.jsonl").unlink(missing_ok=True)
    run(words, whole, brief=True)
    errors, log = tmp_path / "errors", cut / f"checkpoints/MNIST/dev/{name}.jsonl"
    process = start(words, cut, os.devnull, errors, brief=True)
    while not log.is_file() or len(log.read_text().splitlines()) < 3:
        assert process.is_alive(), f"it ended before it could be killed: {errors.read_text()}"
        time.sleep(0.01)
    process.kill()
    process.join()
    assert "going on after epoch" in run(f"{words} --resume", cut, torch=True).stdout
    for path in (whole / "checkpoints/MNIST/dev").glob("*.safetensors"):
        tensors = [tensor_files.read(folder / path.relative_to(whole))[0] for folder in (whole, cut)]
        torch.testing.assert_close(*tensors, rtol=0, atol=0)
    assert "is complete" in run(f"{words} --resume", cut, torch=True).stdout


@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_train_as_one_does(trained, root, tmp_path, training):
    name, what = TRAININGS[training]
    words = f"train {what} --batch-size 32 --total-epochs 2 --no-promote --device cpu --root {root}"
    one, two = (shutil.copytree(trained, tmp_path / processes) for processes in ("one", "two"))
    run(words, one, brief=True)
    environment = dict(os.environ, PYTHONPATH=str(PROJECT), OMP_NUM_THREADS="1")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launcher, CLI, *words.split()], cwd=two, env=environment, check=True)
    losses = []
    for folder in (one, two):
        log = folder / f"checkpoints/MNIST/dev/{name}.jsonl"
        records = [json.loads(line) for line in log.read_text().splitlines()]
        losses.append([record[part]["loss"] for record in records for part in ("train", "validation", "test")])
    # The sums' order differs, and a loss may be a small difference of terms of up to ten in size.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-3)


def test_a_cluster_that_says_less_than_torchrun_trains_one_process(root, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    run(f"train --model vae --root {root} {TINY} {TINY_AUTOENCODER} --no-promote", tmp_path, torch=True)
    assert (tmp_path / "checkpoints/MNIST/dev/vae.safetensors").is_file()


def test_a_flow_of_another_autoencoder_is_refused(trained, root, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    run(f"train --model vae --root {root} {TINY} {TINY_AUTOENCODER} --seed 9", folder, torch=True)
    assert "latents of another encoder" in error_line(run(f"generate {DEV}", folder, status=1, torch=True))


def test_latents_of_an_encoder_that_is_gone_are_refused_before_a_flow_learns_them(trained, root, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    run(f"train --model vae --root {root} {TINY} {TINY_AUTOENCODER} --seed 9 --no-promote", folder, torch=True)
    (folder / "checkpoints/MNIST/main/vae.safetensors").unlink(missing_ok=True)
    before = (folder / "checkpoints/MNIST/dev/vae-flow.safetensors").read_bytes()
    message = error_line(run(f"train {FLOW} {TINY} --no-promote", folder, status=1, torch=True))
    assert "z.safetensors are latents of another encoder than" in message
    assert (folder / "checkpoints/MNIST/dev/vae-flow.safetensors").read_bytes() == before


def test_latents_of_other_images_are_refused(trained, root, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    tensors, metadata = tensor_files.read(folder / "z.safetensors")
    turned = {name: tensor.flip(0) if name.startswith("train.") else tensor for name, tensor in tensors.items()}
    tensor_files.write(folder / "z.safetensors", turned, metadata)
    words = f"train {FLOW} --root {root} {TINY} --model-version dev --class-weight 0.3 --pairs 2 --shift 1"
    assert "not of the images below" in error_line(run(words, folder, status=1, torch=True))


def test_a_training_that_stops_early_says_so(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    stands = "--ema-decay 0 --milestones 1 --gamma 1e-6"  # after an epoch
    words = f"train {FLOW} --batch-size 32 --threads 1 --total-epochs 3 --dim1 8 --lr 1e-8 {stands} --patience 1"
    said = run(words, folder, torch=True).stdout
    assert "no better validation loss since epoch 1: stopping" in said
    assert "3 epochs at most" in said


def test_a_classifier_without_a_weight_of_classes_is_refused(trained, root):
    words = f"train {FLOW} --root {root} {TINY} --model-version dev --classifier-version dev"
    assert "--class-weight" in error_line(run(words, trained, status=2, torch=True))


def test_damaged_checkpoints_and_latents_are_named(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    checkpoint = folder / "checkpoints/MNIST/dev/vae-flow.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    assert "vae-flow.safetensors" in error_line(run(f"generate {DEV}", folder, status=1, torch=True))
    (folder / "z.safetensors").write_bytes(b"nothing")
    words = "train --model flow --autoencoder vae --latents z.safetensors"
    assert "z.safetensors" in error_line(run(words, folder, status=1, torch=True))


MLP, CONV = "--backbone mlp --dim1 8", "--backbone conv --dim1 2 --expansion 1 --n_heads 1"


@pytest.mark.parametrize(
    ("dataset", "backbone"),
    [("EMNIST --split balanced", MLP), ("EMNIST --split byclass", MLP), ("FashionMNIST", CONV)],
)
def test_other_data_sets_go_the_whole_way(tmp_path, root, dataset, backbone):
    which = f"--dataset {dataset}"
    run(f"train --model autoencoder {which} --root {root} {TINY} {TINY_AUTOENCODER} --promote", tmp_path, torch=True)
    run(f"encode-dataset --model autoencoder {which} --root {root} --latents z.safetensors", tmp_path, torch=True)
    flow = f"train --model flow --autoencoder autoencoder {which} --latents z.safetensors --pairs 1"
    run(f"{flow} {TINY} {backbone} --n_layers 1 --promote", tmp_path, torch=True)
    run(f"export --model autoencoder {which} --steps 1", tmp_path, torch=True)
    run(f"generate {which} --labels 0 9 --output page.png --height 1", tmp_path)
    assert json.loads(run(f"test {which} --root {root} --json", tmp_path).stdout)["images"] == 120
