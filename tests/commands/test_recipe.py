"""All stages of a recipe, run."""

import shutil
from dataclasses import replace

import click
import numpy as np
import pytest
import torch

import runtime
from commands import train
from commands.export import export
from commands.models import Choice, opened
from evaluation.accuracy import measure_accuracy
from export.bundles import export_bundle
from export.sources import Source
from runtime import bundle as bundles
from runtime.datasets import LabelledImages, find, load, read_idx
from runtime.errors import ToolkitError
from tests.make_data import write_idx
from tests.recipes import COMPACT, FAST, NANO, SHARING, TINY, run, trainings
from training import checkpoints, paths, tensor_files
from training.checkpoints import Checkpoint, CheckpointError
from training.engine.runs import Run
from training.networks.autoencoders import AutoEncoder
from training.networks.classifiers import Classifier
from training.networks.flows import Flow
from training.networks.sieve import Sieve
from training.options import DRAWING_WEIGHTS, Options
from training.train_generator import load_teacher


def test_a_recipe_goes_from_images_to_a_bundle(folder, root, monkeypatch):
    sieved = []
    monkeypatch.setattr(Sieve, "learn", lambda self, latents, labels, track: sieved.append(len(labels)))
    assert "differ from torch's" in run(root, promote=True)
    assert sieved == [len(load(find("MNIST"), root, "train").labels)]  # once, before the flow
    bundle = bundles.read(folder / "models_onnx" / "MNIST")
    assert (bundle.defaults.steps, bundle.defaults.weight, bundle.defaults.diffusion) == (3, 1.5, 0.5)
    assert (bundle.manifest["storage"], bundle.defaults.sampler) == ("int8", "few")
    generator = bundle.manifest["provenance"]["generator"]
    assert (generator["adversarial_weight"], trainings(generator)[1]["regression_weight"]) == (0.5, 1)
    assert generator["network"]["wave_numbers"] == 5
    decoder = bundle.manifest["provenance"]["vae"]
    _, narrowed, first = trainings(decoder)
    assert (decoder["adversarial_weight"], narrowed["model"], first["alpha"]) == (0.03, "decoder", 0.5)
    assert (decoder["network"]["dim1"], decoder["network"]["dim2"]) == (4, 3)
    flow = bundle.manifest["provenance"]["flow"]
    assert (flow["frechet_weight"], flow["judges"]) == (0.02, 2)
    assert (flow["sampler"]["weight"], flow["sampler"]["steps"]) == (1.2, 3)
    _, tuned, generative = trainings(flow)
    assert (tuned["frechet_weight"], tuned["class_weight"]) == (0, 0.5)
    classifier = checkpoints.load(paths.checkpoint_path("MNIST", "dev", "classifier"), Classifier).network
    assert tuned["learns_from"] == checkpoints.sha256_of(classifier)
    assert generative["class_weight"] == 0
    assert generative["milestones"] == [1]
    assert generative["sample_latents"]
    assert len(bundle.classifier.bank.times) == 3


def test_a_model_of_another_size_goes_on_from_the_main_one_and_is_packed(promoted, root, capsys):
    (promoted / "compact.toml").write_text(COMPACT)
    assert "MNIST-compact.tar.xz" in run(root, promote=True, name="compact")
    first = bundles.read(promoted / "models_onnx" / "MNIST-compact.tar.xz")
    assert (first.name, first.manifest["storage"], first.defaults.steps) == ("MNIST-compact", "int4", 2)
    flow, base = first.manifest["provenance"]["flow"], bundles.read(promoted / "models_onnx" / "MNIST")
    assert (flow["quantize"], flow["before"]["total_epochs"]) == ("int4", 1)
    assert flow["encoder_sha256"] == base.manifest["provenance"]["flow"]["encoder_sha256"]
    shutil.copytree(promoted / "models_onnx" / "MNIST", promoted / "models_onnx" / "MNIST-compact")
    capsys.readouterr()
    run(root, promote=True, name="compact", resume=True)  # which finds all of it done
    assert "MNIST-compact is read in its place" in capsys.readouterr().err
    assert bundles.read(promoted / "models_onnx" / "MNIST-compact.tar.xz").checksum == first.checksum


def test_commands_say_what_no_longer_fits(promoted, root, capsys):
    choice, bundle = Choice(find("MNIST")), bundles.read(promoted / "models_onnx" / "MNIST")
    bundles.record_measurements(bundle, {"fidelity": 0.5})
    capsys.readouterr()
    opened(choice)
    assert not capsys.readouterr().err
    path = paths.checkpoint_path("MNIST", "main", "vae-flow")
    flow = checkpoints.load(path, Flow)
    checkpoints.save(replace(flow, description={**flow.description, "lr": 0.5}), path)
    opened(choice)
    assert "vae-flow.safetensors is not the checkpoint that" in capsys.readouterr().err
    export(choice, None, {}, "int8")
    told = capsys.readouterr().err
    assert "had figures of its samples" in told
    assert "vae-generator.safetensors was distilled from other checkpoints" in told


def test_a_generator_of_another_size_learns_from_the_main_model(promoted, root):
    (promoted / "nano.toml").write_text(NANO)
    assert "MNIST-nano" in run(root, promote=True, name="nano")
    model = runtime.load(promoted / "models_onnx" / "MNIST-nano")
    assert model.generate([3, 1]).shape == (2, 28, 28)
    teacher = [paths.sha256(paths.checkpoint_path("MNIST", "main", name)) for name in ("vae", "vae-flow")]
    assert model.bundle.manifest["provenance"]["generator"]["teacher"] == teacher
    assert model.bundle.defaults.weight == 1.4
    choice = Choice(find("MNIST", size="nano"))
    with pytest.raises(click.UsageError, match=r"--weight: .*0\.5 to 3, not 9"):
        export(choice, None, {"weight": 9.0}, "float32")
    with pytest.raises(click.UsageError, match="--steps is of a flow's solver"):
        export(choice, None, {"steps": 3}, "float32")


def test_a_generator_may_have_the_main_models_flow_beside_it(promoted, root, capsys):
    (promoted / "fast.toml").write_text(FAST)
    run(root, promote=True, name="fast")
    assert "latents of MNIST" not in capsys.readouterr().out  # nothing learns from them
    fast, base = (runtime.load(promoted / "models_onnx" / name) for name in ("MNIST-fast", "MNIST"))
    of_fast, of_base = (model.bundle.manifest["provenance"] for model in (fast, base))
    assert of_fast["generator"]["teacher"] == [of_fast[part]["sha256"] for part in ("vae", "flow")]
    assert [of_fast[part]["sha256"] for part in ("vae", "flow")] == [
        of_base[part]["sha256"] for part in ("vae", "flow")
    ]
    images = fast.generate([3, 1, 4])
    assert fast.bundle.defaults.sampler == "few"
    assert (images != base.generate([3, 1, 4])).any()
    assert (fast.classify(images) == base.classify(images)).all()
    solved, same = (model.generate([3], sampler="heun", steps=2, weight=1.4, diffusion=0.0) for model in (fast, base))
    assert (solved == same).all()


def test_a_complete_recipe_is_not_trained_again(promoted, root, capsys):
    before = bundles.read(promoted / "models_onnx" / "MNIST").manifest["provenance"]["flow"]["sha256"]
    capsys.readouterr()
    run(root, promote=True, resume=True)
    assert capsys.readouterr().out.count("is complete") == 8
    assert bundles.read(promoted / "models_onnx" / "MNIST").manifest["provenance"]["flow"]["sha256"] == before


def test_finishing_resumes_bit_for_bit(folder, root, monkeypatch):
    text = TINY.replace("total_epochs = 1\nbatch_size = 64\nlr = 1e-4", "total_epochs = 2\nbatch_size = 64\nlr = 1e-4")
    (folder / "tiny.toml").write_text(text)

    def trained():
        paths = [folder / "checkpoints/MNIST/main" / f"{name}.safetensors" for name in ("vae", "vae-flow")]
        return [tensor_files.read(path)[0] for path in paths]

    run(root, promote=True)
    wanted = trained()
    shutil.rmtree(folder / "checkpoints")
    record = Run.record

    def interrupted(self, *arguments):
        record(self, *arguments)
        if self.beside:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(root, promote=True)
    assert not (folder / "checkpoints/MNIST/main").exists()
    with pytest.raises(ToolkitError, match=r"vae-flow\.snapshot is of an interrupted training: --resume goes on"):
        run(root, promote=True)
    run(root, promote=True, resume=True)
    for found, before in zip(trained(), wanted, strict=True):
        assert all(torch.equal(found[name], before[name]) for name in before)


def test_what_can_never_be_exported_is_refused_before_anything_is_trained(folder, root):
    (folder / "models_onnx" / "MNIST").mkdir(parents=True)
    (folder / "models_onnx" / "MNIST" / "notes.txt").write_text("mine")
    with pytest.raises(ToolkitError, match="left as it is"):
        run(root, promote=True)
    assert not (folder / "checkpoints").exists()


def test_a_flow_of_other_classes_is_refused(promoted, root):
    text = COMPACT.replace('"MNIST"\nsize = "compact"', '"EMNIST"\nsplit = "balanced"')
    (promoted / "other.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"MNIST.main.vae-flow\.safetensors is of 10 classes, where there are 47"):
        run(root, promote=False, name="other")
    for each in (promoted / "checkpoints/MNIST/main").iterdir():
        target = promoted / "checkpoints/EMNIST-balanced/main" / each.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each, target)
    with pytest.raises(CheckpointError, match="of 10 classes, where there are 47"):
        export_bundle(Source(find("EMNIST"), "vae"), promoted / "b")


def test_a_flow_of_another_encoder_is_refused(promoted, root):
    for name in ("vae", "vae-flow"):
        target = paths.checkpoint_path("FashionMNIST", "main", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.checkpoint_path("MNIST", "main", name), target)
    path = paths.checkpoint_path("FashionMNIST", "main", "vae")
    other = checkpoints.load(path, AutoEncoder)
    torch.nn.init.zeros_(next(other.network.encoder.parameters()))
    checkpoints.save(other, path)
    (promoted / "other.toml").write_text(COMPACT.replace('from = "MNIST"', 'from = "FashionMNIST"', 1))
    with pytest.raises(CheckpointError, match=r"another encoder than .*FashionMNIST.main.vae"):
        run(root, promote=False, name="other")
    assert not (promoted / "checkpoints/MNIST-compact").exists()


def test_a_generator_does_not_learn_from_a_flow_of_another_encoder(promoted):
    path = paths.checkpoint_path("MNIST", "main", "vae")
    other = checkpoints.load(path, AutoEncoder)
    torch.nn.init.zeros_(next(other.network.encoder.parameters()))
    checkpoints.save(other, path)
    with pytest.raises(CheckpointError, match="another encoder"):
        load_teacher(find("MNIST"), "main", "vae", torch.device("cpu"))


def test_what_is_trained_is_settled_when_it_begins(promoted, root, monkeypatch):
    training = train.Training(find("MNIST"), root, "flow", Options())
    assert training.name == "vae-flow"
    monkeypatch.setattr(train, "default_kind", lambda dataset: "autoencoder")  # of a bundle exported meanwhile
    assert training.name == "vae-flow"


def test_a_finished_decoder_has_the_log_of_its_training(promoted):
    logs = [paths.log_path(paths.checkpoint_path("MNIST", "main", name)) for name in ("vae", "vae-flow")]
    assert logs[0].read_text() == logs[1].read_text()


def test_a_damaged_bundle_can_be_exported_anew(promoted, capsys):
    path = promoted / "models_onnx" / "MNIST"
    content = (path / "generate.onnx").read_bytes()
    (path / "generate.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    export(Choice(find("MNIST")), None, {}, "int8")
    assert "generate.onnx" in capsys.readouterr().err
    assert bundles.read(path).defaults.steps == 3


def test_a_finished_flow_wants_its_own_decoder(promoted, root):
    source = Source(find("MNIST"), "vae")
    finished = checkpoints.load(source.autoencoder_path, AutoEncoder)
    other = Checkpoint(finished.network, finished.arguments, finished.description["before"])
    checkpoints.save(other, source.autoencoder_path)
    with pytest.raises(CheckpointError, match="another decoder"):
        export_bundle(source, promoted / "b")
    flow = checkpoints.load(source.flow_path, Flow)
    told = {**flow.description, **dict.fromkeys(DRAWING_WEIGHTS, 0.0), "before": flow.description}
    checkpoints.save(Checkpoint(flow.network, flow.arguments, told), source.flow_path)  # as if tuned since
    with pytest.raises(CheckpointError, match="another decoder"):
        export_bundle(source, promoted / "b")
    training = train.Training(find("MNIST"), root, "flow", Options(), autoencoder="vae")
    with pytest.raises(ToolkitError, match=r"another decoder than .*main.vae\.safetensors"):
        train._check_fits_main(training, source.flow_path)
    training = train.Training(find("MNIST"), root, "decoder", Options(), {"dim4": 3}, autoencoder="vae")
    with pytest.raises(CheckpointError, match="another decoder"):
        train.train(training, promote=False)
    with pytest.raises(CheckpointError, match="another decoder"):
        train._check_fits_main(training, source.autoencoder_path)


def test_a_decoder_that_learnt_another_ones_drawing_takes_its_place(promoted, root):
    main = checkpoints.load(paths.checkpoint_path("MNIST", "main", "vae"), AutoEncoder)
    options = Options(total_epochs=1, batch_size=64, lr=1e-8)
    training = train.Training(find("MNIST"), root, "decoder", options, {"dim4": 3}, autoencoder="vae")
    train.train(training, promote=False)
    taught = checkpoints.load(paths.checkpoint_path("MNIST", "dev", "vae"), AutoEncoder)
    assert taught.arguments == {**main.arguments, "dim4": 3}
    begun, old = (dict(each.network.decoder.named_parameters()) for each in (taught, main))
    same = [name for name in old if begun[name].shape == old[name].shape]
    assert len(same) == len(old) - 3  # the others are of the last convolutions
    for name in same:
        torch.testing.assert_close(begun[name], old[name], rtol=0, atol=1e-4)
    assert checkpoints.encoder_sha256(taught.network) == checkpoints.encoder_sha256(main.network)
    export_bundle(Source(find("MNIST"), "vae", autoencoder_version="dev"), promoted / "b")
    assert runtime.load(promoted / "b").generate([3, 1]).shape == (2, 28, 28)


@pytest.mark.parametrize("split", ["byclass", "bymerge"])
def test_unequal_classes_share_an_autoencoder_and_have_their_frequencies(promoted, root, split):
    dataset = find("EMNIST", split)
    if split == "bymerge":
        root = merged(root, promoted / "merged")
    (promoted / "sharing.toml").write_text(SHARING.replace("SPLIT", split))
    assert "differ from torch's" in run(root, promote=True, name="sharing")
    model = runtime.load(promoted / "models_onnx" / dataset.key)
    counts = np.bincount(load(dataset, root, "train").labels, minlength=len(dataset.classes)).clip(1)
    np.testing.assert_allclose(model.bundle.prior, counts / counts.sum())
    test = load(dataset, root, "test")
    result = measure_accuracy(model, LabelledImages(test.images[:20], test.labels[:20]))
    assert len(result["class_accuracy"]) == len(dataset.classes)
    assert model.generate([0, len(dataset.classes) - 1]).shape == (2, 28, 28)


def merged(root, target):
    """A root with EMNIST bymerge, made of byclass as its authors did: letters alike in both cases become one class."""
    byclass, bymerge = find("EMNIST", "byclass"), find("EMNIST", "bymerge")
    names = [name if name in bymerge.classes else name.upper() for name in byclass.classes]
    table = np.array([bymerge.classes.index(name) for name in names], np.uint8)
    for official_test in (False, True):
        (images, labels), targets = byclass.paths(root, official_test), bymerge.paths(target, official_test)
        for array, path in zip((read_idx(gz(images)), table[read_idx(gz(labels))]), targets, strict=True):
            write_idx(gz(path), array)
    return target


def gz(path):
    return path.with_name(path.name + ".gz")


def test_without_agreement_nothing_main_is_touched(folder, root):
    assert "--promote" in run(root, promote=False)
    assert not (folder / "checkpoints/MNIST/main").exists()
    assert not (folder / "models_onnx").exists()
