import pytest
import torch

from training.augmentation import shifted


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
