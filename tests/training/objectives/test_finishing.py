import copy

import pytest
import torch
import torch.nn.functional as F

from tests.brief_cli import SHORTENED
from tests.drawings import CLASSES, SAMPLER, Enlarger, learn, problem, strokes
from training.engine import snapshots
from training.networks.drawing import Drawing
from training.networks.flows import Flow
from training.objectives import finishing
from training.objectives.adversary import Adversary, ImageCritic
from training.objectives.finishing import Finishing, RandomDrawing
from training.options import DRAWING_WEIGHTS, DrawingObjective, Options, SamplerOptions

CPU = torch.device("cpu")


@pytest.fixture
def brief(monkeypatch):
    """Judges and critics learn for a moment only."""
    for steps in SHORTENED:
        monkeypatch.setattr(finishing, steps, 2)


def test_the_mean_of_both_judges_counts(brief):
    images, labels, drawing = problem()
    drawn, real, some = drawing(labels[:20]).detach(), images[:20], labels[:20]
    objective = DrawingObjective(
        frechet_weight=2.0, kernel_weight=5.0, reading_weight=4.0, adversarial_weight=3.0, judges=2
    )
    both = Finishing(objective, CLASSES, CPU)
    both.start(drawing, images, labels)
    each = copy.deepcopy(both)
    torch.manual_seed(1)
    found = both(drawn, real, some)
    torch.manual_seed(1)
    seen = [observer(drawn, real.float() / 255, some) for observer in each._observers]
    frechet, kernel, reading = ([losses[name] for losses in seen] for name in ("frechet", "kernel", "reading"))
    adversarial = [adversary.loss(real.float() / 255, drawn, some) for adversary in each._adversaries]
    assert len(frechet) == len(kernel) == len(reading) == len(adversarial) == 2
    torch.testing.assert_close(found["frechet"], sum(frechet) / 2)
    torch.testing.assert_close(found["adversarial"], sum(adversarial) / 2)
    torch.testing.assert_close(found["kernel"], sum(kernel) / 2)
    torch.testing.assert_close(found["reading"], sum(reading) / 2)
    wanted = 2 * found["frechet"] + 5 * found["kernel"] + 4 * found["reading"] + 3 * found["adversarial"]
    torch.testing.assert_close(found["drawing"], wanted)
    state = both.state_dict()
    for judge in (lambda i: state[f"features {i}"], lambda i: state[f"adversary {i}"]["critic"]):
        shapes = [{name: tensor.shape for name, tensor in judge(i).items()} for i in (0, 1)]
        assert shapes[0] != shapes[1]


def test_a_snapshot_can_be_written_of_what_was_learnt_in_bfloat16(brief, tmp_path):
    images, labels, drawing = problem()
    weights = dict.fromkeys(DRAWING_WEIGHTS, 1.0)
    with Options(precision="bfloat16").autocast():
        losses = Finishing(DrawingObjective(**weights), CLASSES, CPU)
        losses.start(drawing, images, labels)
    snapshots.write(tmp_path / "snapshot", losses.state_dict())
    first, again = (
        state["kernel 0"]["last"][0] for state in (losses.state_dict(), snapshots.read(tmp_path / "snapshot"))
    )
    torch.testing.assert_close(first, again)


def test_finishing_goes_on_from_its_state(brief):
    images, labels, drawing = problem()
    drawn, real, some = drawing(labels[:20]).detach(), images[:20], labels[:20]
    objective = DrawingObjective(**dict.fromkeys(DRAWING_WEIGHTS, 1.0), judges=2)
    losses, other = (Finishing(objective, CLASSES, CPU) for _ in range(2))
    losses.start(drawing, images, labels)
    other.load_state_dict(copy.deepcopy(losses.state_dict()))
    found = []
    for each in (losses, other):
        torch.manual_seed(1)
        found.append(each(drawn, real, some))
    assert found[0].keys() == {"frechet", "kernel", "reading", "detail", "adversarial", "drawing"}
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_the_reading_loss_makes_classes_clear(monkeypatch):
    monkeypatch.setattr(finishing, "FEATURE_STEPS", 60)
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    rows = F.one_hot(labels, 7)[:, None, :, None]  # of which one is bright, another one for each class
    images = (Enlarger().decode(0.3 * torch.randn(600, 1, 7, 7) + 2 * rows) * 255).to(torch.uint8)
    drawing = RandomDrawing(Drawing(Flow(CLASSES, dim1=16, n_layers=1), Enlarger(), SAMPLER))
    losses = Finishing(DrawingObjective(reading_weight=1.0), CLASSES, CPU)
    losses.start(drawing, images, labels)

    def reading():
        with torch.no_grad():
            return losses(drawing(labels), images, labels)["reading"]

    before = reading()
    learn(drawing, labels, lambda drawn, some: losses(drawn, drawn, some)["drawing"], 40)
    assert reading() < 0.2 * before


def test_the_loss_of_detail_makes_blurred_images_sharper():
    sharp, blurred = strokes(600)
    labels = torch.arange(600) % CLASSES
    losses = Finishing(DrawingObjective(detail_weight=2.0), CLASSES, CPU)
    losses.start(lambda some: blurred[: len(some)], (sharp * 255).to(torch.uint8), labels)
    drawn = blurred.clone().requires_grad_()
    found = losses(drawn, (sharp * 255).to(torch.uint8), labels)
    torch.testing.assert_close(found["drawing"], 2 * found["detail"])
    found["drawing"].backward()
    assert (drawn.grad * (sharp - blurred)).sum() < 0


def test_a_critic_pulls_samples_to_the_real_images():
    images, labels, drawing = problem()
    real = images.float() / 255
    adversary = Adversary(ImageCritic(CLASSES), torch.device("cpu"))

    def loss(drawn, some):
        rows = torch.stack([torch.randint(200, ()) * CLASSES + label for label in some])
        return adversary.loss(real[rows], drawn, some)

    def distance():
        with torch.no_grad():
            return (drawing(labels).mean() - real.mean()).abs()

    before = distance()
    learn(drawing, labels, loss, 60)
    assert distance() < 0.5 * before


def test_finishing_leaves_the_encoder_and_batch_statistics():
    _, _, drawing = problem()
    drawing.train()
    assert drawing.drawing.flow.training
    assert not drawing.drawing.autoencoder.training
    assert not any(parameter.requires_grad for parameter in drawing.drawing.autoencoder.encoder.parameters())


def test_the_sde_has_its_diffusion():
    _, labels, drawing = problem()
    drawing.drawing.sampler = SamplerOptions(sampler="sde", steps=2)
    torch.manual_seed(1)
    noisy = drawing(labels[:4])
    drawing.drawing.sampler = SamplerOptions(sampler="ode", steps=2)
    torch.manual_seed(1)
    assert not torch.allclose(drawing(labels[:4]), noisy)
