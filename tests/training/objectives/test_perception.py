import torch
import torch.nn.functional as F

from tests.drawings import CLASSES, strokes
from training.objectives.perception import EmbeddingNetwork, FineDetail, train_reader
from training.options import Options


def test_pooled_features_do_not_say_where_something_is():
    torch.manual_seed(0)
    middle = torch.zeros(1, 1, 28, 28)
    middle[:, :, 12:14, 12:14] = 1
    apart = [
        (network.embed(middle) - network.embed(middle.roll((4, 4), (2, 3)))).abs().max()
        for network in (EmbeddingNetwork(CLASSES, pooled=pooled).eval() for pooled in (False, True))
    ]
    assert apart[1] < 0.1 * apart[0]


def test_a_judge_learns_in_bfloat16():
    images = (torch.cat(strokes(300)) * 255).to(torch.uint8)
    labels = torch.arange(600) // 300
    with Options(precision="bfloat16").autocast():
        network = train_reader(EmbeddingNetwork(2), images, labels, 100, 64)
        scores = network(images.float() / 255)
    assert scores.dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in network.parameters())
    assert (scores.argmax(1) == labels).float().mean() > 0.9


def test_a_judge_that_learns_thoroughly_knows_moved_images():
    labels = torch.arange(300) % 3
    images = torch.zeros(300, 1, 28, 28, dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, 5 * label + 8 : 5 * label + 10, 8:20] = 255
    moved, losses = images.roll((2, -2), (2, 3)).float() / 255, {}
    for thorough in (False, True):
        torch.manual_seed(0)
        network = train_reader(EmbeddingNetwork(3), images, labels, 60, 64, thorough=thorough)
        losses[thorough] = F.cross_entropy(network(moved), labels)
    assert losses[True] < 0.1 * losses[False]


def test_fine_detail_is_standardised_by_real_images():
    sharp, blurred = strokes(500)
    real = (torch.cat([sharp, blurred]) * 255).round().to(torch.uint8)
    features = FineDetail()
    measured = features.measured(real.float() / 255)
    features.set_statistics(measured)
    found = features(real.float() / 255)
    torch.testing.assert_close(features.standardise(measured), found)
    torch.testing.assert_close(found.mean(0), torch.zeros(39), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(39), atol=1e-3, rtol=0)


def test_fine_detail_says_how_sharp_images_are_and_not_where_strokes_lie():
    sharp, blurred = strokes(500)
    features = FineDetail()
    features.set_statistics(features.measured(sharp))
    moved = features(sharp.roll((4, 8), (2, 3)))
    steepest = slice(14, 15)  # the finest pattern's magnitude
    assert (features(blurred)[:, steepest] < features(sharp)[:, steepest] - 0.5).all()
    assert (features(blurred) - features(sharp)).abs().mean() > 3 * (moved - features(sharp)).abs().mean()
