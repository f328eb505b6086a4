import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from runtime.errors import ToolkitError
from training import checkpoints
from training.engine import snapshots
from training.engine.averages import WeightAverage
from training.engine.batches import TensorRows
from training.engine.loop import Job, TrainingDivergedError, fit
from training.engine.runs import Run
from training.networks.autoencoders import AutoEncoder
from training.options import Options
from training.paths import log_path, snapshot_path

TINY = {"dim1": 2, "dim2": 2, "dim3": 1, "n_layers": 1}


@pytest.fixture(autouse=True)
def one_thread():
    """Trainings of several threads may differ by the last bit, as the libraries below divide their sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_rows_of_tensors_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2, 3"):
        TensorRows(torch.zeros(2), torch.zeros(3))


def test_learning_rate_follows_milestones_or_a_cosine():
    steps = Options(lr=1.0, total_epochs=30, milestones=(15, 20), gamma=0.2)
    assert [steps.learning_rate(epoch) for epoch in (0, 14.9, 15, 20)] == pytest.approx([1, 1, 0.2, 0.04])
    cosine = Options(lr=1.0, total_epochs=10)
    assert [cosine.learning_rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


class Training:
    """A tiny autoencoder that learns to give white images, with noise in its loss."""

    def __init__(self, folder, initial=None, **more):
        options = Options(**{"lr": 0.05, "total_epochs": 4, "batch_size": 16, "ema_decay": 0.9, **more})
        self.path = folder / "autoencoder.safetensors"
        self.run = Run(self.path, {"dataset": "none"}, TINY, options, lambda line: None, initial=initial)

    def losses(self, model, batch):
        return {"loss": (model.decode(model.encode(batch[0])[0]) - torch.rand_like(batch[0])).square().mean()}

    def start(self, losses=None, fails_after=None, brightness=1.0):
        torch.manual_seed(1)
        network = AutoEncoder(**TINY)
        rows = TensorRows(torch.rand(64, 1, 28, 28) * brightness)
        job = Job(network, rows, losses or self.losses, {"validation": rows})
        calls = 0

        def counted(model, batch):
            nonlocal calls
            calls += model.training
            if fails_after is not None and calls > fails_after:
                raise KeyboardInterrupt
            return job.losses_of(model, batch)

        fit(Job(network, rows, counted, job.parts), self.run, self.run.state())
        self.run.finish()
        return checkpoints.load(self.path, AutoEncoder)

    def records(self):
        return [json.loads(line) for line in log_path(self.path).read_text().splitlines()]


def test_fit_learns_and_keeps_records(tmp_path):
    training = Training(tmp_path)
    training.start()
    records = training.records()
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["validation"]["loss"] < records[0]["validation"]["loss"]
    assert records[-1]["train"]["loss"] > 0


@pytest.mark.parametrize("more", [{"num_workers": 1}, {}])
def test_the_same_seed_gives_the_same_weights_with_and_without_workers(tmp_path, more):
    first = Training(tmp_path, total_epochs=2).start()
    again = Training(tmp_path, total_epochs=2, **more).start()
    torch.testing.assert_close(first.network.state_dict(), again.network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("steps", "more"),
    [(4, {}), (6, {}), (15, {}), (6, {"initial_share": 0.5}), (6, {"quantize": "int4"}), (15, {"optimizer": "soap"})],
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, steps, more):
    whole = Training(tmp_path / "whole", **more).start()
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "cut", **more).start(fails_after=steps)
    assert snapshot_path(Training(tmp_path / "cut").path).is_file()
    resumed = Training(tmp_path / "cut", resume=True, **more)
    again = resumed.start()
    torch.testing.assert_close(again.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0)
    assert resumed.path.read_bytes() == Training(tmp_path / "whole").path.read_bytes()
    assert [record["epoch"] for record in resumed.records()] == [1, 2, 3, 4]
    assert not snapshot_path(resumed.path).exists()
    assert resumed.run.is_complete()


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path).start(fails_after=6)
    with pytest.raises(ToolkitError, match="train data have changed") as refusal:
        Training(tmp_path, resume=True).start(brightness=0.9)
    path = snapshot_path(Training(tmp_path).path)
    assert str(path) in str(refusal.value)
    state = snapshots.read(path)
    snapshots.write(path, {name: value for name, value in state.items() if name != "data"})
    with pytest.raises(ToolkitError, match="did not note them"):
        Training(tmp_path, resume=True).start()
    snapshots.write(path, state)
    assert Training(tmp_path, resume=True).start()


def test_a_run_is_resumed_that_had_written_its_first_weights_and_no_snapshot_with_them(tmp_path, monkeypatch):
    whole, write, calls = Training(tmp_path / "whole").start(), snapshots.write, []

    def killed(path, state):
        calls.append(state["epoch"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(path, state)

    monkeypatch.setattr(snapshots, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "cut").start()
    assert (calls, Training(tmp_path / "cut").path.is_file()) == ([0, 1], True)
    again = Training(tmp_path / "cut", resume=True).start()
    torch.testing.assert_close(again.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0)


def test_a_run_that_was_killed_as_it_ended_leaves_no_snapshot_to_the_next(tmp_path, monkeypatch):
    training, unlink = Training(tmp_path), Path.unlink

    def killed(path, **more):
        if path == snapshot_path(training.path):
            raise KeyboardInterrupt
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            training.start()
    weights = checkpoints.load(training.path, AutoEncoder).network.state_dict()
    again = Training(tmp_path, resume=True).start()
    torch.testing.assert_close(again.network.state_dict(), weights, rtol=0, atol=0)
    assert again.description["complete"]
    assert not snapshot_path(training.path).exists()


def test_an_interrupted_run_is_not_begun_anew_by_oversight(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path).start(fails_after=6)
    for seed in (0, 5):  # the same, and another that would take its place
        with pytest.raises(ToolkitError, match=r"autoencoder\.snapshot is of an interrupted training: --resume goes"):
            Training(tmp_path, seed=seed).start()
    assert Training(tmp_path, resume=True).run.state() is not None
    snapshot_path(Training(tmp_path).path).unlink()
    Training(tmp_path, seed=5).start()


@pytest.mark.parametrize("steps", [0, 6])
def test_a_run_that_goes_on_from_an_equal_one_is_resumed(tmp_path, steps):
    first = Training(tmp_path).start().description
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, initial=first).start(fails_after=steps)
    found = checkpoints.load(Training(tmp_path).path, AutoEncoder).description
    resumed = Training(tmp_path, initial=found, resume=True)
    assert not resumed.run.is_complete()
    description = resumed.start().description
    assert description["complete"]
    assert description["before"] == first


def test_a_complete_run_leaves_the_snapshot_of_the_next(tmp_path):
    Training(tmp_path).start()
    Training(tmp_path, seed=5).run.begin({"epoch": 0})
    assert Training(tmp_path, resume=True).run.is_complete()
    assert snapshot_path(Training(tmp_path).path).is_file()


def test_a_training_that_ends_beside_another_leaves_its_files(tmp_path):
    first = Training(tmp_path)
    first.start()
    other = Training(tmp_path, seed=5)
    with pytest.raises(ToolkitError, match="another training's, which ran beside this one: seed 0, not 5"):
        other.run.finish()
    other.run.begin({"epoch": 0})
    first.run.finish()
    assert snapshot_path(first.path).is_file()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: log_path(path).write_bytes(b"\xff\xfe"), r"jsonl can't be read"),
        (lambda path: log_path(path).unlink(), r"jsonl can't be read"),
        (lambda path: log_path(path).write_text(""), "has 0 lines where 1 epochs"),
        (lambda path: shutil.copy(path, snapshot_path(path)), "is no snapshot"),
    ],
)
def test_what_is_wrong_with_the_files_of_a_run_to_resume_is_said(tmp_path, damage, message):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path).start(fails_after=6)
    damage(Training(tmp_path).path)
    with pytest.raises(ToolkitError, match=message):
        Training(tmp_path, resume=True).start()


def test_compiled_losses_are_the_same(tmp_path, monkeypatch):
    plain = Training(tmp_path / "plain", total_epochs=1).start()
    compile_it, asked = partial(torch.compile, backend="eager"), []
    monkeypatch.setattr(torch, "compile", lambda losses: asked.append(losses) or compile_it(losses))
    compiled = Training(tmp_path / "compiled", total_epochs=1, compile=True).start()
    assert len(asked) == 1
    torch.testing.assert_close(compiled.network.state_dict(), plain.network.state_dict())


def test_another_run_is_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path).start(fails_after=6)
    with pytest.raises(ToolkitError, match=r"lr 0.05, not 0.1"):
        Training(tmp_path, lr=0.1, resume=True).start()


def test_patience_stops_and_keeps_the_best(tmp_path):
    training, scores = Training(tmp_path, total_epochs=9, patience=2), iter([3.0, 1.0, 2.0, 1.5, 0.0])

    def losses(model, batch):
        loss = training.losses(model, batch)["loss"]
        return {"loss": loss if model.training else torch.tensor(next(scores))}

    checkpoint = training.start(losses)
    assert [record["kept"] for record in training.records()] == [True, True, False, False]
    assert checkpoint.description["last_epoch"]["epoch"] == 2


def test_bfloat16_learns_too(tmp_path):
    training, seen = Training(tmp_path, precision="bfloat16"), set()

    def losses(model, batch):
        if model.training:
            seen.add(model.encoder[0](batch[0]).dtype)
        return training.losses(model, batch)

    checkpoint = training.start(losses)
    assert seen == {torch.bfloat16}
    assert training.records()[-1]["validation"]["loss"] < training.records()[0]["validation"]["loss"]
    assert all(tensor.dtype == torch.float32 for tensor in checkpoint.network.parameters())


def test_weights_learn_to_be_few_multiples(tmp_path):
    training = Training(tmp_path, quantize="int4")
    seen = []

    def losses(model, batch):
        seen.append(model.encoder[0][0].weight.detach().clone())
        return training.losses(model, batch)

    kept = training.start(losses).network
    assert training.records()[-1]["validation"]["loss"] < training.records()[0]["validation"]["loss"]
    for weights in (*seen, *(each.detach() for each in kept.parameters() if each.ndim > 1)):
        multiples = 7 * weights.flatten(1) / weights.flatten(1).abs().amax(1, keepdim=True)
        torch.testing.assert_close(multiples, multiples.round(), atol=1e-3, rtol=0)
    assert len(set(kept.decoder[0][1].bias.tolist())) > 1


def test_weights_that_diverged_in_an_epoch_s_last_step_are_not_kept(tmp_path):
    training = Training(tmp_path)

    def losses(model, batch):
        found = training.losses(model, batch)
        return found if model.training else {**found, "loss": found["loss"] * float("inf")}

    with pytest.raises(
        TrainingDivergedError, match=r"validation loss is inf after epoch 1, 4 steps: remove .*snapshot and try"
    ):
        training.start(losses)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_divergence_is_reported_with_its_step(tmp_path):
    def losses(model, batch):
        return {"loss": model.decode(batch[0][:, :, :7, :7]).mean() * float("nan")}

    with pytest.raises(TrainingDivergedError, match="step 0"):
        Training(tmp_path).start(losses)


def test_the_average_forgets_its_start():
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.9)
    average.update(model)
    began = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    average.update(model)
    assert (average.network().weight - began).min() < 0.95
    for _ in range(200):
        average.update(model)
    torch.testing.assert_close(average.network().weight, model.weight)


def test_a_share_of_the_initial_weights_is_kept(tmp_path):
    shares = (0.0, 0.25, 1.0)
    moved, mixed, stayed = (Training(tmp_path, initial_share=share).start().network.state_dict() for share in shares)
    torch.manual_seed(1)
    initial = dict(AutoEncoder(**TINY).named_parameters())
    assert not all(torch.equal(moved[name], initial[name]) for name in initial)
    for name, began in initial.items():
        torch.testing.assert_close(stayed[name], began.detach())
        torch.testing.assert_close(mixed[name], moved[name].lerp(began.detach(), 0.25))


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_gradients_that_are_not_finite_from_the_first_step_on_are_reported(tmp_path, optimizer):
    def steep(model, batch):
        return {"loss": (model.decoder[0][0].weight * 0).sqrt().sum()}

    with pytest.raises(TrainingDivergedError, match="the loss is nan"):
        Training(tmp_path, optimizer=optimizer).start(losses=steep)
