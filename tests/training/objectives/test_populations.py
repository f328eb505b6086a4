import copy

import pytest
import torch
from torch import nn

from runtime.errors import DataError
from tests.drawings import CLASSES, averages, learn, problem
from training.objectives.populations import NEIGHBOURS, REMEMBERED, SHRINKAGE, FrechetLoss, KernelLoss

CPU = torch.device("cpu")


def frechet_loss(images, labels):
    """The loss of features that are averages, for real images uint8."""
    loss = FrechetLoss(CLASSES, CPU)
    loss.aim_at(averages(images.float() / 255), labels)
    return loss


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
    loss = FrechetLoss(CLASSES, CPU, spread=1.5)
    loss.aim_at(mean + off, labels)

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
    loss, other = frechet_loss(images, labels), FrechetLoss(CLASSES, CPU)
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
