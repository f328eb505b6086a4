import pytest
import torch

from training.loop import Options, TensorRows, TrainingDivergedError, fit, mean_losses


def test_learning_rate_follows_milestones_or_a_cosine():
    steps = Options(lr=1.0, total_epochs=30, milestones=(15, 20), gamma=0.2)
    assert [steps.learning_rate(epoch) for epoch in (0, 14.9, 15, 20)] == pytest.approx([1, 1, 0.2, 0.04])
    cosine = Options(lr=1.0, total_epochs=10)
    assert [cosine.learning_rate(epoch) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def squared(model, batch):
    return {"loss": (model(batch[0]) - batch[1]).square().mean()}


def train(**more):
    torch.manual_seed(0)
    x = torch.randn(256, 3)
    data = TensorRows(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]))
    model, records = torch.nn.Linear(3, 1), []
    options = Options(**{"lr": 0.05, "total_epochs": 20, "batch_size": 32, "ema_decay": 0.9, **more})
    average = fit(
        model,
        data,
        squared,
        lambda average: mean_losses(average, data, squared, 100, torch.device("cpu")),
        options,
        lambda average, record: records.append(record),
    )
    return average, records


def test_fit_learns_and_keeps_records():
    average, records = train()
    assert [record["epoch"] for record in records] == list(range(1, 21))
    assert records[-1]["test"]["loss"] < 1e-3 < records[0]["test"]["loss"]
    torch.testing.assert_close(average.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05, rtol=0)


def test_the_same_seed_gives_the_same_weights_with_and_without_workers():
    first, _ = train(total_epochs=2)
    again, _ = train(total_epochs=2, num_workers=1)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)


def test_divergence_is_reported_with_its_step():
    torch.manual_seed(0)
    data = TensorRows(torch.full((64, 1), float("nan")))

    def losses(model, batch):
        return {"loss": model(batch[0]).mean()}

    with pytest.raises(TrainingDivergedError, match="step 0"):
        fit(torch.nn.Linear(1, 1), data, losses, lambda _: {}, Options(batch_size=32), lambda *_: None)


def test_the_average_forgets_its_start():
    """With decay 0.9 and a model that stands still, the average is the model."""
    average, _ = train(lr=1e-12, total_epochs=10)
    torch.manual_seed(0)
    torch.randn(256, 3)
    torch.testing.assert_close(average.weight, torch.nn.Linear(3, 1).weight, atol=1e-6, rtol=0)
