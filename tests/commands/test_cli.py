"""The commands as whole processes, as their users run them."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cli import cli
from runtime import bundle as bundles
from runtime import manifests
from runtime.places import SHIPPED
from tests.command_line import PROJECT, error_line, heeding, picture, run


def test_generate_draws_a_page(tmp_path):
    result = run("generate --height 2 --width 3 --labels 3 1 --seed 5 --output page.png", tmp_path)
    assert "page.png" in result.stdout
    size, text = picture(tmp_path / "page.png")
    assert size == (3 * 80 + 4, 2 * 80 + 4)
    parameters = json.loads(text["parameters"])
    assert parameters["labels"] == ["3", "1"]
    assert parameters["seed"] == 5
    assert parameters["weight"] > 0
    assert re.fullmatch("[0-9a-f]{64}", parameters["checksum"])


def test_generate_has_a_default_output(tmp_path):
    run("generate --height 1 --width 1", tmp_path)
    assert (tmp_path / "generate-MNIST.png").is_file()


def test_a_bundle_is_run_from_where_it_lies(tmp_path):
    run("pack MNIST-nano --output mine.tar.xz", tmp_path)
    run("generate --bundle mine.tar.xz --seed 3 --num 5 --output a.npz", tmp_path)
    run("generate --dataset MNIST --size nano --seed 3 --num 5 --output b.npz", tmp_path)
    with np.load(tmp_path / "a.npz") as mine, np.load(tmp_path / "b.npz") as shipped:
        np.testing.assert_array_equal(mine["images"], shipped["images"])
    run("generate --bundle EMNIST-balanced-tiny --height 1 --width 1 --labels Q", tmp_path)
    assert (tmp_path / "generate-EMNIST-balanced-tiny.png").is_file()
    refused = run("generate --bundle mine.tar.xz --size nano", tmp_path, status=2)
    assert "--bundle decides --size" in error_line(refused)
    assert "no bundle" in error_line(run("classify a.png --bundle nothing", tmp_path, status=1))


def test_generate_writes_an_archive_that_is_what_the_runtime_draws(tmp_path):
    import runtime

    run("generate --num 25 --seed 2 --output a.npz --batch-size 7", tmp_path)
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["labels"], np.arange(25) % 10)
        np.testing.assert_array_equal(archive["images"], runtime.load("MNIST").generate(archive["labels"], seed=2))


def test_classify_names_classes(tmp_path):
    import runtime

    images = runtime.load("MNIST").generate([7, 4], seed=0)
    for name, image in zip("ab", images, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    result = run("classify a.png b.png", tmp_path)
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["a.png:", "7"], ["b.png:", "4"]]
    (tmp_path / "fake.png").write_text("no picture")
    others = run("classify a.png fake.png b.png gone.png", tmp_path, status=1)
    assert others.stdout == result.stdout
    assert re.search(r"^Error: fake\.png is no picture.*; there is no picture gone\.png", others.stderr, re.M)
    found = json.loads(run("classify a.png b.png --json", tmp_path).stdout)
    assert [image["class"] for image in found["images"]] == ["7", "4"]
    assert sum(found["images"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_test_measures_accuracy_without_torch(tmp_path, root):
    found = json.loads(run(f"test --root {root} --json", tmp_path).stdout)
    assert found["images"] == 120
    assert found["accuracy"] > 0.95
    assert found["correct"] == round(found["accuracy"] * 120)
    assert {"l1", "l2", "cross_entropy"} <= set(found["losses"])
    assert found["seconds"] > 0
    assert found["model_version"] == "main"
    assert "accuracy" in run(f"test --root {root} --rule ode", tmp_path).stdout


def test_test_measures_calibration_likelihood_and_strangers(tmp_path, root):
    found = json.loads(run(f"test --root {root} --against FashionMNIST --against noise --json", tmp_path).stdout)
    assert 0 <= found["calibration_error"] < 0.2
    assert found["log_likelihood"]["bits_per_dimension"] == pytest.approx(
        -found["log_likelihood"]["nats"] / (49 * np.log(2)), rel=1e-5
    )
    assert min(told["area_under_curve"] for told in found["separation"].values()) > 0.95
    assert min(told["flagged"] for told in found["separation"].values()) > 0.8
    assert sum(map(sum, found["confusion"])) == 120
    assert set(found["class_accuracy"]) == set("0123456789")


def test_confusions_are_drawn(tmp_path, root):
    said = run(f"test --root {root} --confusion confusion.png", tmp_path).stdout
    assert "most frequent mistakes" in said
    assert len(re.findall(r"least accurate classes: .*", said)[0].split(", ")) == 5
    width, height = picture(tmp_path / "confusion.png")[0]
    assert width == height > 200


def test_a_path_from_noise_is_drawn(tmp_path):
    run("generate --path --height 3 --steps 5 --output path.png", tmp_path)
    assert picture(tmp_path / "path.png")[0] == (6 * 80 + 4, 3 * 80 + 4)


def test_classify_knows_what_is_no_digit(tmp_path, root):
    from runtime import datasets

    digit = datasets.load(datasets.find("MNIST"), root, "test").images[0]
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for name, image in (("digit", digit), ("noise", noise)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    lines = run("classify digit.png noise.png --invert no", tmp_path).stdout.splitlines()
    assert ["unlike" in line for line in lines] == [False, True]
    images = json.loads(run("classify digit.png noise.png --invert no --json", tmp_path).stdout)["images"]
    assert [image["unlike_training_data"] for image in images] == [False, True]


def test_evaluate_records_what_it_measured(tmp_path, root):
    shutil.copytree(PROJECT / "models_onnx" / "MNIST-nano", tmp_path / "models_onnx" / "MNIST-nano")
    run(f"evaluate --size nano --root {root} --seeds 1 --record", tmp_path)
    found = json.loads(run("info MNIST-nano --json", tmp_path).stdout)["bundles"][0]["measured"]
    assert found["samples"] == 120
    assert found["second"]["fidelity"] > 0.8
    assert f"fidelity {found['second']['fidelity']:.4g}" in run("info MNIST-nano", tmp_path).stdout
    assert found["command"].endswith("evaluate --dataset MNIST --size nano --part test --seeds 1")


def test_evaluate_judges_samples_beside_real_images(tmp_path, root):
    command = f"evaluate --root {root} --seeds 2 --nearest nearest.png"
    found = json.loads(run(f"{command} --json", tmp_path).stdout)
    for which in ("first", "second"):
        assert found[which]["mean"]["fidelity"] > 0.9
        assert found[which]["real"]["frechet_multiple"] == 1
    assert 0.5 < found["other"]["mean"]["memorisation"] < 2
    assert found["accuracy"] > 0.9
    assert 0 < found["negative_log_posterior"] < 0.5
    assert 0 < found["calibration_error"] < 0.2
    assert picture(tmp_path / "nearest.png")[0] == (10 * 80 + 4, 8 * 80 + 4)
    table = run(command, tmp_path).stdout
    assert "memorisation" in table
    assert f"calibration error {found['calibration_error']:.4f}" in table


def test_evaluate_judges_as_many_samples_as_are_asked_for(tmp_path, root):
    command = f"evaluate --size nano --root {root} --seeds 1"
    assert json.loads(run(f"{command} --num 100 --json", tmp_path).stdout)["samples"] == 100
    assert "100 images of test" in run(f"{command} --num 100", tmp_path).stdout
    assert "more than the" in error_line(run(f"{command} --num 1000000", tmp_path, status=2))


def test_reconstruction_draws_pairs(tmp_path, root):
    run(f"test-reconstruction --root {root} --height 2 --width 2 --output pairs.png", tmp_path)
    assert picture(tmp_path / "pairs.png")[0] == (4 * 80 + 4, 2 * 80 + 4)


def test_a_packed_bundle_is_used_like_its_folder(tmp_path):
    import runtime

    (tmp_path / "models_onnx").mkdir()
    packed = tmp_path / "models_onnx" / "MNIST-tiny.tar.xz"
    run(f"pack MNIST-tiny --output {packed}", tmp_path)
    assert packed.stat().st_size < 50_000
    assert str(packed.relative_to(tmp_path)) in run("info MNIST-tiny", tmp_path).stdout
    assert "MNIST-tiny" in run(f"info {packed}", tmp_path).stdout
    run("generate --size tiny --num 3 --steps 2 --seed 2 --output x.npz", tmp_path)
    with np.load(tmp_path / "x.npz") as archive:
        wanted = runtime.load("MNIST-tiny").generate(archive["labels"], seed=2, steps=2)
        np.testing.assert_array_equal(archive["images"], wanted)


def test_one_damaged_bundle_hides_no_other(tmp_path):
    (tmp_path / "models_onnx" / "broken").mkdir(parents=True)
    (tmp_path / "models_onnx" / "broken" / "manifest.json").write_text("{}")
    result = run("info", tmp_path)
    assert "MNIST:" in result.stdout
    assert "broken" in result.stderr
    assert "broken" in error_line(run("info broken", tmp_path, status=1))


def test_info_lists_and_details(tmp_path):
    listed = run("info", tmp_path).stdout
    assert "MNIST" in listed
    assert "CPUExecutionProvider" in listed
    (nano,) = [line.split() for line in listed.splitlines() if line.startswith("MNIST-nano:")]
    assert nano[1:3] == ["10", "1,070"]
    assert nano[-1] == "-"  # it does not classify
    detail = json.loads(run("info MNIST --json", tmp_path).stdout)["bundles"][0]
    assert detail["checksum"] == bundles.read("MNIST").checksum
    assert detail["networks"] == ["vae", "flow"]
    assert set(detail["files"]) == set(manifests.GRAPHS)


def test_labels_take_names_indices_and_commas(tmp_path):
    for words in ("--labels 3 1 4", "--labels 3,1,4", "--labels=3 1 4", "--labels 3 --labels 1 --labels 4"):
        run(f"generate {words} --num 3 --output a.npz", tmp_path)
        with np.load(tmp_path / "a.npz") as archive:
            assert archive["labels"].tolist() == [3, 1, 4]
    for words in ("-o b.png", "-ob.png"):  # a short flag ends them, too
        run(f"generate --labels 3 1 4 {words}", tmp_path)
        (tmp_path / "b.png").unlink()


def test_a_letter_that_the_other_case_stands_for_is_named(tmp_path):
    said = run("generate --dataset EMNIST --size nano --labels c a C B 7 --output a.png", tmp_path).stderr
    assert "c by C" in said
    assert "a by" not in said
    assert "B by" not in said
    assert "7 by" not in said
    assert run("generate --dataset FashionMNIST --size nano --labels sneaker --output a.png", tmp_path).stderr == ""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_write_leaves_nothing(tmp_path, stop):
    command = [sys.executable, PROJECT / "cli.py", "generate", "--num", "100000000", "--output", "big.npz"]
    heed = heeding(stop)
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(stop)
        assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 128 + stop
    assert not list(tmp_path.iterdir())


def test_test_needs_the_test_files_only(tmp_path, root):
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for path in (root / "MNIST/raw").glob("t10k-*"):
        shutil.copy(path, tmp_path / "MNIST/raw")
    assert run(f"test-reconstruction --root {tmp_path} --height 1", tmp_path).stdout
    assert json.loads(run(f"test --root {tmp_path} --json", tmp_path).stdout)["images"]


def test_no_arguments_are_a_wish_for_help(tmp_path):
    assert run("", tmp_path).stdout == run("--help", tmp_path).stdout


def test_names_with_spaces_are_classes(tmp_path):
    run("generate --dataset FashionMNIST --labels 'ankle boot,Bag 0' --num 3 --output a.npz", tmp_path)
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["labels"].tolist() == [9, 8, 0]


def test_help_of_every_command_has_an_example(tmp_path):
    assert {"train", "evaluate", "bench"} <= set(cli.commands)
    for command in cli.commands:
        assert "Example:\n" in run(f"{command} --help", tmp_path).stdout


def test_help_of_train_has_sections_and_no_flag_without_one(tmp_path):
    text = run("train --help", tmp_path).stdout
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert {"What is trained", "Data", "Learning", "Machine"} <= set(titles)
    assert text[text.index("\nOptions:\n") :].count("\n  -") == 1  # --help
    learning = text[text.index("Learning:") : text.index("Losses:")]
    assert "--lr" in learning
    assert text.count("\n  --lr ") == 1


def test_info_tells_of_the_bundles_it_can_read_and_names_the_others(tmp_path):
    shutil.copytree(SHIPPED / "MNIST-nano", tmp_path / "mine")
    result = run("info MNIST-nano ./mine nowhere", tmp_path, status=1)
    rows = [line.split(":")[0] for line in result.stdout.splitlines()[1:3]]
    assert rows == ["MNIST-nano", "mine"]
    assert "nowhere" in result.stderr
    found = json.loads(run("info MNIST-nano mine --json", tmp_path).stdout)["bundles"]
    assert [each["shipped"] for each in found] == [True, False]


def test_classify_says_where_there_seem_to_be_several_characters(tmp_path):
    run("generate --labels 3 --height 1 --width 1 --output one.png", tmp_path)
    run("generate --labels 3 1 4 --height 1 --width 3 --output row.png", tmp_path)
    lines = run("classify one.png row.png", tmp_path).stdout.splitlines()
    assert ["several characters" in line for line in lines] == [False, True]
    found = json.loads(run("classify one.png row.png --json", tmp_path).stdout)["images"]
    assert [each["several_characters"] for each in found] == [False, True]


def test_an_index_that_could_be_characters_is_told(tmp_path):
    said = run("generate --dataset EMNIST --labels 12 A --num 2 --output a.npz", tmp_path).stderr
    assert "12 is C" in said
    assert "classes by" not in run("generate --labels 1 2 --num 2 --output a.npz", tmp_path).stderr
