"""What commands refuse, each with one line and a status: wrong use, and problems in the world."""

import shutil

import pytest

from tests.command_line import error_line, run

WRONG = [
    "generate --dataset CIFAR",
    "generate --split letters",
    "generate --split byclass",
    "bench --dataset FashionMNIST --split balanced",
    "generate --model gan",
    "generate --model-version old",
    "generate --autoencoder-version old",
    "generate --device tpu",
    "generate --weight nan",
    "generate --weight -1",
    "generate --diffusion x",
    "generate --sampler rk4",
    "generate --sampler dpmpp --diffusion 1",
    "generate --steps 0",
    "generate --sampler few --steps 2",
    "generate --sampler few --path",
    "generate --steps 1.5",
    "generate --labels ten",
    "generate --labels 10",
    "generate --height 0",
    "generate --width -3",
    "generate --scale 0",
    "generate --seed -1",
    "generate --seed 18446744073709551616",
    "generate --batch-size 0",
    "generate --threads 0",
    "generate --num -1 --output a.npz",
    "generate --num 5",
    "generate --output .png",
    "generate --labels ,",
    "evaluate --record --weight 3",
    "evaluate --record --num 100",
    "evaluate --num 99",
    "generate --output page.gif",
    "generate --height 1000 --width 1000 --scale 10",
    "generate --device cuda",
    "evaluate --model-version dev --record",
    "evaluate --nearest page.txt",
    "test --confusion gone/page.png",
    "test --against CIFAR",
    "generate --path --output a.npz",
    "generate --path --width 3",
    "generate --num 3 --output a.npz --height 2",
    "generate --guidance-start 2",
    "generate --output nowhere/page.png",
    "generate extra",
    "classify",
    "classify a.png --top 0",
    "classify a.png --rule guess",
    "classify a.png --invert maybe",
    "test --rule guess",
    "test --root ''",
    "classify ''",
    "test --num-workers -1",
    "test-reconstruction --output a.npz",
    "nonsense",
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_use_is_one_line_and_status_2(tmp_path, words):
    assert error_line(run(words, tmp_path, status=2))
    assert not list(tmp_path.iterdir())


WRONG_TRAINING = [
    "train",
    "train --model gan",
    "train --model vae --lr 0",
    "train --model vae --lr nan",
    "train --model vae --total-epochs 0",
    "train --model vae --initial-share 2",
    "train --model vae --initial-share 0.5",
    "train --model vae --judges 2",
    "train --model flow --model-version main --detail-weight 0.01 --judges 2",
    "train --model generator --adversarial-weight 1 --judge-steps 9",
    "train --model generator --frechet-spread 1.2",
    "train --model flow --model-version dev --frechet-weight 1 --frechet-spread 0",
    "train --model vae --frechet-weight 3",
    "train --model flow --alpha 0.1",
    "train --model classifier --latents z.safetensors",
    "train --model generator --pairs 3",
    "train --model generator --diffusion 1",
    "train --model generator --weight 9",
    "train --model decoder --model-version dev",
    "train --model generator --model-version main --dim1 4",
    "train --model flow --model-version main --dim1 4",
    "train --model decoder",
    "train --model decoder --steps 2",
    "train --model decoder --dim1 3",
    "train --model flow --class-weight 0.3",
    "train --model flow --adversarial-weight 0.3",
    "train --model flow --model-version dev --shift 1",
    "train --model flow --sampler ode --diffusion 1",
    "train --model vae --steps 3",
    "train --model vae --milestones 3 x",
    "train --model vae --milestones",
    "train --model vae --gamma 2",
    "train --model vae --alpha -1",
    "train --model vae --device tpu",
    "train --model vae --dim9 3",
    "train --model vae --dim1 x",
    "train --model vae --dim1 0",
    "train --model vae --dim1",
    "train --model vae --n_heads 5",
    "train --model vae stray",
    "train --model flow --backbone rnn",
    "train --model flow --classes 3",
    "train --recipe nothing",
    'train --recipe ""',
    "train --recipe MNIST --lr 0.1",
    "train --recipe MNIST --dim1 3",
    "train --recipe MNIST --model vae",
    "train --recipe MNIST --latents thesis.txt",
    "train --model vae --dim1 999999999",
    "train --model vae --n_layers 1000000000",
    "train --model vae --device meta",
    "encode-dataset --model flow",
    "encode-dataset --latents thesis.txt",
    "export --weight inf",
]


@pytest.mark.parametrize("words", WRONG_TRAINING)
def test_wrong_training_is_one_line_and_status_2(tmp_path, words):
    assert error_line(run(words, tmp_path, status=2, torch=True))


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


def test_unknown_network_arguments_list_the_real_ones(tmp_path):
    message = error_line(run("train --model flow --dim9 3", tmp_path, status=2, torch=True))
    assert "--dim1" in message
    assert "--n_layers" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("classify gone.png", "gone.png"),
        ("classify fake.png", "fake.png"),
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
