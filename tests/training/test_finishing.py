import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runtime.errors import DataError
from training import finishing
from training.adversary import Adversary, ImageCritic
from training.drawing import Drawing
from training.finishing import Finishing, RandomDrawing
from training.flows import Flow
from training.options import DrawingObjective, SamplerOptions
from training.perception import EmbeddingNetwork, FineDetail
from training.populations import NEIGHBOURS, REMEMBERED, SHRINKAGE, FrechetLoss, KernelLoss

CLASSES = 3
CPU = torch.device("cpu")
SAMPLER = SamplerOptions(steps=2, weight=1.5, guidance_start=0.5)


class Enlarger(nn.Module):
    """Stands for an autoencoder: pixels are what the latent has in their place."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(1, 1)

    def decode(self, z):
        return F.interpolate(z, scale_factor=4).sigmoid()


def averages(images):
    """Stands for a classifier's features: the image's averages in sixteen places."""
    return 10 * F.avg_pool2d(images, 7).flatten(1)


def frechet_loss(images, labels):
    """The loss of features that are averages, for real images uint8."""
    return FrechetLoss(averages(images.float() / 255), labels, CLASSES)


def problem():
    """Images that come of latents with a mean of 2, their labels, and a flow that knows nothing of them."""
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    images = (Enlarger().decode(2 + 0.3 * torch.randn(600, 1, 7, 7)) * 255).to(torch.uint8)
    return images, labels, RandomDrawing(Drawing(Flow(CLASSES, dim1=16, n_layers=1), Enlarger(), SAMPLER))


def learn(drawing, labels, loss, steps, lr=1e-2):
    optimiser = torch.optim.Adam(drawing.drawing.flow.parameters(), lr)
    for _ in range(steps):
        some = labels[torch.randperm(len(labels))[:64]]
        value = loss(drawing(some), some)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()


def test_the_frechet_loss_pulls_samples_to_the_real_images():
    images, labels, drawing = problem()
    loss = frechet_loss(images, labels)

    def distance():
        with torch.no_grad():
            loss.start(averages(drawing(labels)), labels)
        return (loss._moments[0] - loss._mean).norm()

    before = distance()
    learn(drawing, labels, lambda images, some: loss(averages(images), some), 60)
    assert distance() < 0.3 * before


def test_images_without_any_spread_have_a_bounded_gradient():
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    images = torch.randint(256, (600, 1, 4, 4), dtype=torch.uint8).repeat_interleave(7, 2).repeat_interleave(7, 3)
    loss = frechet_loss(images, labels)
    grey = torch.full((600, 1, 28, 28), 0.5)
    loss.start(averages(grey), labels)
    apart = (grey + 0.1 * (images.float() / 255 - 0.5)).requires_grad_()
    loss(averages(apart), labels).backward()
    pixels = 49 * len(labels)  # to an average, of which the loss is the mean
    farthest, of_pixels = 0.5, 10.0  # in features
    assert apart.grad.abs().max() * pixels < 2 * farthest * of_pixels / SHRINKAGE**0.5


def test_the_frechet_loss_aims_at_the_spread_it_is_told():
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    mean = 5 * torch.randn(CLASSES, 4)[labels]
    off = torch.randn(600, 4)
    off -= torch.stack([off[labels == label].mean(0) for label in range(CLASSES)])[labels]
    loss = FrechetLoss(mean + off, labels, CLASSES, spread=1.5)

    def outwards(factor):
        drawn = (mean + factor**0.5 * off).requires_grad_()
        loss.start(drawn.detach(), labels)
        loss(drawn, labels).backward()
        return -(drawn.grad * off).sum().item()

    assert outwards(1) > 0 > outwards(2)
    assert abs(outwards(1.5)) < 0.01 * outwards(1)


def test_the_frechet_loss_goes_on_from_its_state():
    images, labels, drawing = problem()
    drawn = averages(drawing(labels[:20])).detach()
    loss, other = (frechet_loss(images, labels) for _ in range(2))
    loss.start(drawn, labels[:20])
    state = copy.deepcopy(loss.state_dict())
    wanted = loss(drawn, labels[:20])
    other.load_state_dict(state)
    assert other(drawn, labels[:20]).item() == wanted.item()


def test_the_frechet_loss_of_what_is_not_finite_is_none():
    images, labels, _ = problem()
    loss = frechet_loss(images, labels)
    real = averages(images.float() / 255)
    loss.start(real, labels)
    wrong = real.clone()
    wrong[0, 0] = torch.inf
    assert loss(wrong, labels).isnan()
    assert loss(real, labels).isfinite()  # what it knows is as before


def test_the_kernel_loss_drives_apart_what_is_too_much_alike():
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    real = torch.rand(600, 1, 4, 4) * torch.linspace(0.5, 1, CLASSES)[labels, None, None, None]
    drawn = nn.Parameter(0.3 + 0.02 * torch.rand(600, 1, 4, 4))
    loss = KernelLoss(CPU)
    optimiser = torch.optim.Adam([drawn], 1e-2)

    def features(side, rows=slice(None)):
        return 10 * side[rows].flatten(1)

    loss.start(features(drawn.detach()), features(real), labels)
    for _ in range(300):
        rows = torch.randperm(600)[:200]
        optimiser.zero_grad()
        loss(features(drawn, rows), features(real, rows), labels[rows]).backward()
        optimiser.step()
    for label in range(CLASSES):
        found, wanted = (side[labels == label].flatten(1) for side in (drawn.detach(), real))
        assert (found.std(0).mean() / wanted.std(0).mean()).item() == pytest.approx(1, abs=0.2)
        assert found.mean().item() == pytest.approx(wanted.mean().item(), abs=0.05)


def test_the_kernel_loss_is_half_the_discrepancy_of_classes():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 12 + [1] * 12)
    others, found, wanted, newer = (torch.rand(24, 16) for _ in range(4))
    found.requires_grad_()
    loss = KernelLoss(CPU)
    loss.start(others, wanted, labels)
    scale = torch.stack(
        [torch.cdist(side, side).sort(1).values[:, NEIGHBOURS] for side in (wanted[:12], wanted[12:])]
    ).median()
    expected = torch.zeros(())
    for each in (slice(12), slice(12, 24)):
        alike, right = (torch.exp(-torch.cdist(found[each], side[each]) / scale) for side in (others, wanted))
        expected = expected + (alike.mean() - right.mean()) / 2
    value = loss(found, newer, labels)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert found.grad.abs().max() > 0


def test_copies_of_an_image_are_no_neighbours_of_it():
    torch.manual_seed(0)
    real, labels = torch.rand(12, 16), torch.tensor([0] * 6 + [1] * 6)
    once, often = KernelLoss(CPU), KernelLoss(CPU)
    once.start(real, real, labels)
    often.start(real.repeat(9, 1), real.repeat(9, 1), labels.repeat(9))
    assert 0 < often.state_dict()["scale"] <= once.state_dict()["scale"]
    with pytest.raises(DataError, match="5 other images of a class"):
        once.start(real[5:7].repeat(9, 1), real[5:7].repeat(9, 1), labels[5:7].repeat(9))


def test_the_kernel_loss_forgets_and_goes_on_from_its_state():
    images, labels, drawing = problem()
    drawn, real = averages(drawing(labels)).detach(), averages(images.float() / 255)
    loss, other = KernelLoss(CPU), KernelLoss(CPU)
    loss.start(drawn[:20], real[:20], labels[:20])
    loss(drawn, real, labels)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert other(drawn[:50], real[:50], labels[:50]).item() == loss(drawn[:50], real[:50], labels[:50]).item()
    for _ in range(4):
        loss(drawn, real, labels)
    assert len(loss.state_dict()["last"][0]) == REMEMBERED


def of_the_kernel_loss(rank, count, file):
    """Save what a process of several sees of two batches: losses, and what is remembered."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=count)
    images, labels, _ = problem()
    real, loss = averages(images.float() / 255), KernelLoss(CPU)
    loss.start(real.sqrt(), real, labels)
    rows = range(rank * 20 // count, (rank + 1) * 20 // count)
    seen = [loss(real[rows] / batch, real[rows], labels[rows]).item() for batch in (2, 3)]
    torch.save((seen, loss.state_dict()), f"{file}-{count}-{rank}")
    torch.distributed.destroy_process_group()


def test_processes_share_what_the_kernel_loss_remembers(tmp_path):
    for count in (1, 2):
        torch.multiprocessing.spawn(of_the_kernel_loss, (count, tmp_path / f"group{count}"), count)
    whole, state = torch.load(tmp_path / "group1-1-0")
    (first, left), (second, right) = (torch.load(tmp_path / f"group2-2-{rank}") for rank in (0, 1))
    assert [(a + b) / 2 for a, b in zip(first, second, strict=True)] == pytest.approx(whole, rel=1e-4)
    for found in (left, right):
        torch.testing.assert_close(found, state)


def test_the_mean_of_both_judges_counts(monkeypatch):
    for steps in ("FEATURE_STEPS", "FIRST_BATCHES", "CRITIC_STEPS"):
        monkeypatch.setattr(finishing, steps, 2)
    images, labels, drawing = problem()
    drawn, real, some = drawing(labels[:20]).detach(), images[:20], labels[:20]
    objective = DrawingObjective(
        frechet_weight=2.0, kernel_weight=5.0, reading_weight=4.0, adversarial_weight=3.0, judges=2
    )
    both = Finishing(objective, images, labels, CLASSES)
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


def test_the_reading_loss_makes_classes_clear(monkeypatch):
    monkeypatch.setattr(finishing, "FEATURE_STEPS", 60)
    torch.manual_seed(0)
    labels = torch.arange(600) % CLASSES
    rows = F.one_hot(labels, 7)[:, None, :, None]  # of which one is bright, another one for each class
    images = (Enlarger().decode(0.3 * torch.randn(600, 1, 7, 7) + 2 * rows) * 255).to(torch.uint8)
    drawing = RandomDrawing(Drawing(Flow(CLASSES, dim1=16, n_layers=1), Enlarger(), SAMPLER))
    losses = Finishing(DrawingObjective(reading_weight=1.0), images, labels, CLASSES)

    def reading():
        with torch.no_grad():
            return losses(drawing(labels), images, labels)["reading"]

    before = reading()
    learn(drawing, labels, lambda drawn, some: losses(drawn, drawn, some)["drawing"], 40)
    assert reading() < 0.2 * before


def test_pooled_features_do_not_say_where_something_is():
    torch.manual_seed(0)
    middle = torch.zeros(1, 1, 28, 28)
    middle[:, :, 12:14, 12:14] = 1
    apart = [
        (network.embed(middle) - network.embed(middle.roll((4, 4), (2, 3)))).abs().max()
        for network in (EmbeddingNetwork(CLASSES, pooled=pooled).eval() for pooled in (False, True))
    ]
    assert apart[1] < 0.1 * apart[0]


def strokes(count):
    """Images (N, 1, 28, 28) in [0, 1], as sharp as pixels can be, and the same blurred."""
    torch.manual_seed(0)
    sharp = F.interpolate((torch.rand(count, 1, 7, 7) < 0.3).float(), scale_factor=4)
    return sharp, F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def test_fine_detail_is_standardised_by_real_images():
    sharp, blurred = strokes(500)
    real = (torch.cat([sharp, blurred]) * 255).round().to(torch.uint8)
    features = FineDetail()
    found = features.standardise(features(real.float() / 255))
    torch.testing.assert_close(features(real.float() / 255), found)
    torch.testing.assert_close(found.mean(0), torch.zeros(39), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(39), atol=1e-3, rtol=0)


def test_fine_detail_says_how_sharp_images_are_and_not_where_strokes_lie():
    sharp, blurred = strokes(500)
    features = FineDetail()
    features.standardise(features(sharp))
    moved = features(sharp.roll((4, 8), (2, 3)))
    steepest = slice(14, 15)  # the finest pattern's magnitude
    assert (features(blurred)[:, steepest] < features(sharp)[:, steepest] - 0.5).all()
    assert (features(blurred) - features(sharp)).abs().mean() > 3 * (moved - features(sharp)).abs().mean()


def test_the_loss_of_detail_makes_blurred_images_sharper():
    sharp, blurred = strokes(600)
    labels = torch.arange(600) % CLASSES
    losses = Finishing(DrawingObjective(detail_weight=2.0), (sharp * 255).to(torch.uint8), labels, CLASSES)
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
