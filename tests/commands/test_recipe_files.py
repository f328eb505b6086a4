"""Recipes read, and what is wrong with them named."""

import click
import pytest
import torch

from commands import recipe, recipe_files, training_options
from runtime.errors import DataError
from tests.command_line import PROJECT
from tests.recipes import COMPACT, TINY, run
from training.checkpoints import CheckpointError

AUTOENCODER = TINY[TINY.index("[autoencoder]") : TINY.index("[classifier]")]
DISTILLATION = TINY[TINY.index("[distillation]") : TINY.index("[[generator_stages]]")]
FLOW = TINY[TINY.index("[flow]") : TINY.index("[[flow_stages]]")]
CLASSIFIER = TINY[TINY.index("[classifier]") : TINY.index("[flow]")]


def test_rounds_are_trainings_with_new_seeds():
    tables = [{"name": "tuning", "lr": 1e-3}, {"name": "finishing", "lr": 1e-4, "seed": 3, "rounds": 2}]
    found = recipe_files.further_stages({"flow_stages": tables}, "flow_stages")
    assert found == [
        {"name": "tuning", "lr": 1e-3, "seed": 0},
        {"name": "finishing", "lr": 1e-4, "seed": 3},
        {"name": "finishing", "lr": 1e-4, "seed": 4},
    ]


def test_a_recipe_may_begin_with_a_byte_order_mark(folder):
    (folder / "marked.toml").write_text(TINY, "utf-8-sig")
    assert recipe_files.read("marked.toml") == recipe_files.read("tiny")


def test_what_a_table_leaves_out_is_as_before(folder):
    stages = """[[flow_stages]]
name = "finishing"
lr = 1e-3
rounds = 2
judges = 3
[[flow_stages]]
name = "tuning"
lr = 1e-2
[flow_stages.sampler]
weight = 1.3
[[flow_stages]]
name = "finishing"
judges = 1
seed = 7
[distillation]"""
    (folder / "tiny.toml").write_text(TINY.replace("[distillation]", stages, 1))
    found = recipe_files.read("tiny")
    of_name = {"batch_size": 64, "lr": 1e-3, "total_epochs": 1, "frechet_weight": 0.02, "pairs": 3}
    first, rounds, tuned, last = found["flow_stages"][2:]
    assert (first["lr"], first["judges"], first["sampler"]["weight"]) == (1e-4, 2, 1.2)
    assert rounds.items() >= {**of_name, "judges": 3, "rounds": 2, "sampler": first["sampler"]}.items()
    assert (tuned["lr"], tuned["pairs"], "judges" in tuned) == (1e-2, 3, False)
    assert last.items() >= {**of_name, "judges": 1, "seed": 7}.items()
    assert "rounds" not in last
    assert last["sampler"] == first["sampler"] | {"weight": 1.3}
    assert [found[name]["sampler"]["weight"] for name in ("flow", "distillation")] == [
        training_options.SAMPLER["weight"],
        1.3,
    ]
    assert found["export"].items() >= (last["sampler"] | {"weight": 1.5, "diffusion": 0.5}).items()


def test_a_generator_is_of_as_many_channels_as_its_teacher_has(folder, monkeypatch):
    monkeypatch.chdir(PROJECT)
    wide = TINY.replace("[autoencoder.network]", "[autoencoder.network]\nlatent_channels = 2", 1)
    of_fashion = TINY[TINY.index("[distillation]") :].replace("wave_numbers = 5", "wave_numbers = 36")
    (folder / "wide.toml").write_text(wide.replace("wave_numbers = 5", "wave_numbers = 18"))
    (folder / "fashion.toml").write_text(f'dataset = "FashionMNIST"\nsize = "nano"\n{of_fashion}')
    for name, numbers in (("wide", 18), ("fashion", 36)):
        assert recipe_files.read(name)["generator_stages"][0]["network"]["wave_numbers"] == numbers
    (folder / "wide.toml").write_text(wide.replace("wave_numbers = 5", "wave_numbers = 19"))
    with pytest.raises(DataError, match="of 18 cosines"):
        recipe_files.read("wide")


def test_the_diffusion_is_not_another_solvers(folder):
    (folder / "tiny.toml").write_text(
        TINY.replace("weight = 1.2", 'sampler = "sde"\ndiffusion = 0.7').replace("diffusion = 0.5", 'sampler = "ode"')
    )
    found = recipe_files.read("tiny")
    assert found["flow_stages"][2]["sampler"]["diffusion"] == 0.7
    assert found["export"]["diffusion"] is None


def test_unknown_recipes_list_the_known(folder):
    with pytest.raises(click.UsageError, match="tiny"):
        recipe.run_recipe("huge", folder, None, torch.device("cpu"), 0, True)


def test_a_model_to_go_on_from_is_missed_before_anything_is_trained(folder, root):
    (folder / "tiny.toml").write_text(COMPACT.replace('from = "MNIST"', 'from = "MNIST-none"'))
    with pytest.raises(CheckpointError, match=r"no checkpoint .*MNIST-none.main.vae\.safetensors"):
        run(root, promote=False)
    assert not (folder / "checkpoints").exists()


def test_a_recipe_may_be_any_file(folder, root):
    (folder / "tiny.toml").rename(folder / "sub.toml")
    assert "--promote" in run(root, promote=False, name=str(folder / "sub.toml"))


STAGE = "[[flow_stages]]\nname = 'more'\ntotal_epochs = 1\n"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('dataset = "MNIST"', "", "lacks dataset"),
        ("[export]", "[exports]", "lacks export"),
        ("[classifier]", "[reader]", "has 'reader'"),
        ('model = "vae"', "", "autoencoder: lacks model"),
        (TINY, 'dataset = "MNIST"\n[export]', "lacks what to train"),
        (TINY, 'dataset = "MNIST"\nautoencoder = 3\nflow = 3\n[export]', "autoencoder: is no table"),
        ("alpha = 0.5", "alhpa = 0.5", "autoencoder: has 'alhpa'"),
        ("alpha = 0.5", 'alpha = "much"', "autoencoder: alpha: 'much' is not a number"),
        ("alpha = 0.5", "alpha = true", "alpha: True is no number"),
        ("alpha = 0.5", "compile = 3", "compile: 3 is no boolean"),
        ("alpha = 0.5", "compile = []", r"compile: \[\] is no boolean"),
        ("alpha = 0.5", "from = 3", "from: 3 is no text"),
        ("batch_size = 64", "batch_size = 64.7", "batch_size: 64.7 is no integer"),
        ("[export]", '[export]\nsampler = "ode"', "export: diffusion goes with"),
        ("alpha = 0.5", "resume = true", "autoencoder: has 'resume'"),
        ('model = "vae"', 'model = "autoencoder"', "autoencoder: has 'alpha', which is not of autoencoder"),
        ('dataset = "MNIST"', 'dataset = "MNIST"\nsize = "tiny"', "distillation: a generator of another size"),
        ('dataset = "MNIST"', 'dataset = "MNIST"\nsplit = "byclass"', "MNIST has no splits"),
        (DISTILLATION, "", "has generator_stages without distillation"),
        (AUTOENCODER, "", "has classifier, flow, flow_stages without autoencoder"),
        ("pairs = 3", "pears = 3", "flow_stages: number 1: has 'pears'"),
        ("pairs = 3", "rounds = 0", "flow_stages: number 1: rounds: 0 is not"),
        ("pairs = 3", "rounds = 101", "flow_stages: number 1: rounds: 101 is not"),
        (
            "pairs = 3",
            "rounds = 2\nseed = 18446744073709551615",
            "flow_stages: a seed, counted up by rounds, is beyond",
        ),
        ('name = "tuning"', "", "flow_stages: number 1: lacks name"),
        ('model = "decoder"', 'model = "vae"', "flow_stages: number 2: model: 'vae' is not one of"),
        ('model = "decoder"', "", "flow_stages: number 2: a network is of a decoder, and a decoder has one"),
        ('model = "decoder"', 'model = "decoder"\npairs = 3', "flow_stages: number 2: has 'pairs', which is not of"),
        ("dim3 = 2\ndim4 = 1", "dim4 = 1", "flow_stages: number 2: network: lacks dim3"),
        ("dim4 = 1", "dim4 = 1\ndim1 = 1", "flow_stages: number 2: network: has 'dim1'"),
        ("weight = 1.2", "wait = 1.2", "flow_stages: number 3: sampler: has 'wait'"),
        ("[[generator_stages]]", "[generator_stages]", "generator_stages: is no list"),
        ("wave_numbers = 5", "dim1 = 5", "generator_stages: number 1: network: has 'dim1'"),
        ("wave_numbers = 5", "wave_numbers = 10", "generator_stages: network: Generator can't be built: of 9 cosines"),
        ("frequencies = 3", "frequencies = 3\nwave_numbers = 2", "the generator has other wave_numbers already"),
        ("sieve = 3", "sieve = -3", "flow: network: sieve: .*is 0 to"),
        ("[export]", "[export]\nstep = 3", "export: has 'step'"),
        ("alpha = 0.5", f"lr = 1{400 * '0'}", "autoencoder: lr: .* too large"),
        ("alpha = 0.5", f"lr = 1{5000 * '0'}", "damaged"),
        ("alpha = 0.5", f"lr = {5000 * '['}", "damaged"),
        ("[flow]", '[flow]\nfrom = "MNIST-none"', "flow: .* is not trained: leave out batch_size"),
        (FLOW, '[flow]\nfrom = "MNIST"\n', "flow: another model's goes with no new encoder: autoencoder lacks from"),
        ("weight = 1.5", "weight = 9", "export: a generator has a guidance weight of 0.5 to 3"),
        ("[distillation]", "[distillation.sampler]\nweight = 4\n[distillation]", "distillation: a generator has"),
        ("[distillation]", "[distillation.sampler]\ndiffusion = 1\n[distillation]", "distillation: sampler: has 'diff"),
        ("[distillation]", f"{STAGE}{STAGE}[distillation]", "flow_stages: two of them are the same"),
        ("milestones = [1]", "class_weight = 0.5", "flow: --class-weight is for a flow that has learnt"),
        ("[distillation]", f"{STAGE}shift = 1\n[distillation]", "flow_stages: number 4: --shift changes the images"),
        ("weight = 1.2", 'sampler = "dpmpp"\ndiffusion = 1', "flow_stages: diffusion goes with"),
        ("alpha = 0.5", "pairs = 3", "autoencoder: has 'pairs'"),
        ("alpha = 0.5", "initial_share = 0.5", "autoencoder: has 'initial_share'"),
        ("milestones = [1]", "judges = 2", "flow: --judges are of"),
        ("sieve = 3", 'backbone = "conv"\nn_heads = 3', "flow: network: Flow can't be built"),
        (CLASSIFIER, "", "flow_stages: classifier_version: there is no table classifier"),
        ("[export]", '[export]\nsampler = "rk4"', "export: sampler: 'rk4' is not one of"),
        ('dataset = "MNIST"', 'dataset = "Mnist"', "dataset: 'Mnist' is not one of"),
        ('dataset = "MNIST"', "dataset = ", "damaged"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named_before_anything_is_trained(folder, root, before, after, message):
    assert before in TINY
    (folder / "tiny.toml").write_text(TINY.replace(before, after, 1))
    with pytest.raises(DataError, match=rf"tiny\.toml.*{message}"):
        run(root, promote=False)
    assert not (folder / "checkpoints").exists()
