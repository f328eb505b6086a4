"""What commands refuse, each with one line and a status: wrong use, and problems in the world."""

import shutil

import pytest

from tests.command_line import PROJECT, error_line, run

WRONG = [
    ("generate --dataset CIFAR", "'CIFAR' is not one of"),
    ("generate --split letters", "'letters' is not one of"),
    ("generate --split byclass", "MNIST has no splits"),
    ("bench --dataset FashionMNIST --split balanced", "FashionMNIST has no splits"),
    ("generate --model gan", "'gan' is not one of"),
    ("generate --model-version old", "'--model-version': 'old' is not one of"),
    ("generate --autoencoder-version old", "'--autoencoder-version': 'old' is not one of"),
    ("generate --device tpu", "'tpu' is not to be had here"),
    ("generate --weight nan", "'nan' is not a number from 0 to 100"),
    ("generate --weight -1", "'-1' is not a number from 0 to 100"),
    ("generate --diffusion x", "'x' is not a number from 0 to 10"),
    ("generate --sampler rk4", "'rk4' is not one of"),
    ("generate --sampler dpmpp --diffusion 1", "diffusion goes with sampler sde or heun, not dpmpp"),
    ("generate --steps 0", "'--steps': 0 is not in the range"),
    ("generate --sampler few --steps 2", "steps goes with sampler"),
    ("generate --sampler few --path", "no generator for sampler few"),
    ("generate --steps 1.5", "'1.5' is not a valid integer"),
    ("generate --labels ten", "'ten' is no class"),
    ("generate --labels 10", "'10' is no class"),
    ("generate --height 0", "'--height': 0 is not in the range"),
    ("generate --width -3", "'--width': -3 is not in the range"),
    ("generate --scale 0", "'0' is not a number from 0.05 to 10"),
    ("generate --seed -1", "'--seed': -1 is not in the range"),
    ("generate --seed 18446744073709551616", "18446744073709551616 is not in the range"),
    ("generate --batch-size 0", "'--batch-size': 0 is not in the range"),
    ("generate --threads 0", "'--threads': 0 is not in the range"),
    ("generate --num -1 --output a.npz", "'--num': -1 is not in the range"),
    ("generate --num 5", "--num goes with an .npz --output"),
    ("generate --output .png", "'.png' does not end in .png"),
    ("generate --labels ,", "',' names nothing"),
    ("evaluate --record --weight 3", "--record goes with the bundle's own settings"),
    ("evaluate --record --num 100", "--record goes without --num"),
    ("evaluate --num 99", "'--num': 99 is not in the range"),
    ("generate --output page.gif", "'page.gif' does not end in"),
    ("generate --height 1000 --width 1000 --scale 10", "1,000,000,000,000 pixels"),
    ("generate --device cuda", "'cuda' is not to be had here"),
    ("evaluate --model-version dev --record", "--record goes with main versions"),
    ("evaluate --nearest page.txt", "'page.txt' does not end in .png"),
    ("test --confusion gone/page.png", "there is no folder 'gone'"),
    ("test --against CIFAR", "'--against': 'CIFAR' is not one of"),
    ("generate --path --output a.npz", "--path draws a .png"),
    ("generate --path --width 3", "leave out --width"),
    ("generate --num 3 --output a.npz --height 2", "leave out --height"),
    ("generate --guidance-start 2", "'2' is not a number from 0 to 1"),
    ("generate --output nowhere/page.png", "there is no folder 'nowhere'"),
    ("generate extra", "unexpected extra argument (extra)"),
    ("classify", "Missing argument 'FILES...'"),
    ("classify a.png --top 0", "'--top': 0 is not in the range"),
    ("classify a.png --rule guess", "'guess' is not one of"),
    ("classify a.png --invert maybe", "'maybe' is not one of"),
    ("test --rule guess", "'guess' is not one of"),
    ("test --root ''", "'--root': it is empty"),
    ("classify ''", "'FILES...': it is empty"),
    ("test --num-workers -1", "'--num-workers': -1 is not in the range"),
    ("test-reconstruction --output a.npz", "'a.npz' does not end in .png"),
    ("nonsense", "No such command 'nonsense'"),
]


WRONG_TRAINING = [
    ("train", "give --model"),
    ("train --model gan", "'gan' is not one of"),
    ("train --model vae --lr 0", "'--lr': '0' is not a number"),
    ("train --model vae --lr nan", "'--lr': 'nan' is not a number"),
    ("train --model vae --total-epochs 0", "'--total-epochs': 0 is not in the range"),
    ("train --model vae --initial-share 2", "'2' is not a number from 0 to 1"),
    ("train --model vae --initial-share 0.5", "--initial-share is of the weights of --model-version"),
    ("train --model vae --judges 2", "--judges goes with --model flow or generator"),
    ("train --model flow --model-version main --detail-weight 0.01 --judges 2", "--judges are of"),
    ("train --model generator --adversarial-weight 1 --judge-steps 9", "--judge-steps are of networks"),
    (
        "train --model generator --kernel-weight 1 --patience 2",
        "of which --kernel-weight is no part",
    ),
    ("train --model generator --frechet-spread 1.2", "--frechet-spread says what --frechet-weight aims at"),
    (
        "train --model flow --model-version dev --frechet-weight 1 --frechet-spread 0",
        "'--frechet-spread': '0' is not a number",
    ),
    ("train --model vae --frechet-weight 3", "--frechet-weight goes with --model flow or generator"),
    ("train --model flow --alpha 0.1", "--alpha goes with --model vae"),
    ("train --model classifier --latents z.safetensors", "--latents goes with --model flow"),
    ("train --model generator --pairs 3", "--pairs goes with --model flow"),
    ("train --model generator --diffusion 1", "--diffusion goes with --model flow"),
    ("train --model generator --weight 9", "a guidance weight of 0.5 to 3, not 9"),
    ("train --model decoder --model-version dev", "not decoder"),
    ("train --model generator --model-version main --dim1 4", "no argument '--dim1'"),
    ("train --model flow --model-version main --dim1 4", "leave out --dim1 4"),
    ("train --model generator --numbers 24 --frequencies 5 --wave_numbers 30", "of 25 cosines"),
    ("train --model decoder", "give what the decoder differs in"),
    ("train --model decoder --steps 2", "--steps goes with --model flow or generator"),
    ("train --model decoder --dim1 3", "no argument '--dim1'"),
    ("train --model flow --class-weight 0.3", "--class-weight is for a flow that has learnt to generate"),
    ("train --model flow --adversarial-weight 0.3", "--adversarial-weight is for a flow that has learnt to generate"),
    ("train --model flow --model-version dev --shift 1", "give --class-weight"),
    ("train --model flow --sampler ode --diffusion 1", "diffusion goes with sampler sde or heun, not ode"),
    ("train --model vae --steps 3", "--steps goes with --model flow or generator"),
    ("train --model vae --milestones 3 x", "'x' is not a valid integer"),
    ("train --model vae --milestones", "'--milestones' requires an argument"),
    ("train --model vae --gamma 2", "'--gamma': '2' is not a number"),
    ("train --model vae --alpha -1", "'--alpha': '-1' is not a number"),
    ("train --model vae --device tpu", "'tpu' is not to be had here"),
    ("train --model vae --dim9 3", "no argument '--dim9'"),
    ("train --model vae --dim1 x", "--dim1 is a whole number, not 'x'"),
    ("train --model vae --dim1 0", "--dim1 is 1 to 10000, not 0"),
    ("train --model vae --dim1", "--dim1 needs a value"),
    ("train --model vae --n_heads 5", "24 channels can't be divided among 5 attention heads"),
    ("train --model vae stray", "no argument 'stray'"),
    ("train --model flow --backbone rnn", "--backbone is one of mlp, conv"),
    ("train --model flow --classes 3", "no argument '--classes'"),
    ("train --recipe nothing", "no recipe 'nothing'"),
    ('train --recipe ""', "no recipe ''"),
    ("train --recipe MNIST --lr 0.1", "--recipe decides --lr"),
    ("train --recipe MNIST --dim1 3", "--recipe decides --dim1 3"),
    ("train --recipe MNIST --model vae", "--recipe decides --model"),
    ("train --recipe MNIST --latents thesis.txt", "'thesis.txt' does not end in .safetensors"),
    ("train --model vae --dim1 999999999", "--dim1 is 1 to 10000"),
    ("train --model vae --n_layers 1000000000", "--n_layers is 1 to 10000"),
    ("train --model vae --device meta", "'meta' is not to be had here"),
    ("encode-dataset --model flow", "'flow' is not one of"),
    ("encode-dataset --latents thesis.txt", "'thesis.txt' does not end in .safetensors"),
    ("export --weight inf", "'inf' is not a number from 0 to 100"),
]


@pytest.mark.parametrize(
    ("words", "reason", "torch"), [(*each, False) for each in WRONG] + [(*each, True) for each in WRONG_TRAINING]
)
def test_wrong_use_is_one_line_and_status_2(tmp_path, words, reason, torch):
    assert reason in error_line(run(words, tmp_path, status=2, torch=torch))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("generate --split byclass", "add --dataset EMNIST"),
        ("generate --dataset EMNIST --split byclass --labels Quick", "Q u i c k"),
        ("generate --sampler few", "sizes fast and nano"),
    ],
)
def test_wrong_use_that_can_be_mended_says_how(tmp_path, words, hint):
    assert hint in error_line(run(words, tmp_path, status=2))


def test_a_generators_arguments_are_refused_by_what_its_teacher_has():
    words = "train --dataset FashionMNIST --model generator --numbers 24 --frequencies 5 --wave_numbers 101"
    assert "of 100 cosines and 172 further numbers" in error_line(run(words, PROJECT, status=2, torch=True))


def test_unknown_network_arguments_list_the_real_ones(tmp_path):
    message = error_line(run("train --model flow --dim9 3", tmp_path, status=2, torch=True))
    assert "--dim1" in message
    assert "--n_layers" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("classify gone.png", "gone.png"),
        ("classify fake.png", "fake.png"),
        ("classify \x1b[31m.png", "\\x1b[31m.png"),
        ("info nowhere", "nowhere"),
        ("info ./MNIST", "./MNIST"),
        ("generate --dataset FashionMNIST --size compact", "FashionMNIST, FashionMNIST-fast"),
        ("info .", "manifest.json"),
        ("test --root empty", "t10k-images-idx3-ubyte"),
        ("generate --dataset EMNIST --split bymerge", "EMNIST-byclass"),
        ("generate --model vae --model-version dev", "train it first"),
    ],
)
def test_problems_in_the_world_are_one_line_and_status_1(tmp_path, words, named):
    (tmp_path / "fake.png").write_text("no picture")
    assert named in error_line(run(words, tmp_path, status=1))


@pytest.mark.parametrize("words", ["train --model vae", "encode-dataset", "export"])
def test_training_without_torch_says_what_to_install(tmp_path, words):
    assert "pip install '.[train]'" in error_line(run(words, tmp_path, status=1))


def test_a_damaged_data_file_is_named(tmp_path, root):
    shutil.copytree(root / "MNIST", tmp_path / "MNIST")
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in error_line(run(f"test --root {tmp_path}", tmp_path, status=1))
