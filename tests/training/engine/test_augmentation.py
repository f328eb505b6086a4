import pytest
import torch

from training.engine.augmentation import augmented, distorted, shifted
from training.options import Options


@pytest.mark.parametrize("most", [1, 2])
def test_every_image_is_moved_by_whole_pixels_within_the_most(most):
    images = torch.randint(1, 256, (300, 1, 5, 4), dtype=torch.uint8)
    moves = set()
    for image, moved in zip(images[:, 0], shifted(images, most)[:, 0], strict=True):
        inked = moved.nonzero()
        top, left = inked.min(0).values.tolist()
        bottom, right = (inked.max(0).values + 1).tolist()
        down, aside = (top if bottom == 5 else bottom - 5), (left if right == 4 else right - 4)
        kept = image[max(0, -down) : 5 - max(0, down), max(0, -aside) : 4 - max(0, aside)]
        assert torch.equal(moved[top:bottom, left:right], kept)
        moves.add((down, aside))
    assert moves == {(a, b) for a in range(-most, most + 1) for b in range(-most, most + 1)}


def test_distorted_images_are_turned_sheared_and_scaled_about_their_middle():
    image = torch.zeros(400, 1, 29, 29)
    image[:, :, 14, 9:20] = 1
    found = distorted(image, 0.2)[:, 0]
    assert (found[:, 14, 14] > 0.3).all()
    ink, place = found.sum((1, 2)), torch.arange(29) - 14.0
    assert ((found.sum(1) @ place) / ink).abs().max() < 0.5
    assert ((found.sum(2) @ place) / ink).abs().max() < 0.5
    steepness = torch.einsum("nij,i,j->n", found, place, place) / torch.einsum("nij,j,j->n", found, place, place)
    assert steepness.min() < -0.12
    assert steepness.max() > 0.12
    assert steepness.abs().max() < 0.3
    assert torch.equal(distorted(image, 1e-9).round(decimals=4), image)


def test_augmented_pixels_are_between_0_and_1_and_untouched_without_options():
    images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(augmented(images, 0), images / 255)
    assert not Options().augments
    found = augmented(images, 1, 0.2)
    assert found.shape == images.shape
    assert found.min() >= 0
    assert found.max() <= 1
