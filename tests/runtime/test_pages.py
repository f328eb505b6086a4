import json
import os

import numpy as np
import pytest
from PIL import Image

from runtime import pages
from runtime.datasets import find, load


@pytest.fixture(scope="module")
def digit(root):
    return load(find("MNIST"), root, "test").images[0]


def test_a_page_has_its_images_in_rows(digit):
    array = pages.page(np.stack([digit, 0 * digit, 0 * digit, 255 - 0 * digit]), height=2, width=2, scale=0.8)
    assert array.shape == (164, 164)
    assert array[4:80, 4:80].mean() > 5
    assert array[10:70, 90:150].max() == 0
    assert array[90:150, 90:150].min() == 255


@pytest.mark.parametrize("scale", [0.05, 0.3, 0.8])
def test_images_are_enlarged_and_shrunk_as_pillow_does(digit, scale):
    """It computes in whole numbers and cuts what is above white after each of two passes."""
    sheet = pages.page(digit[None] // 2, 1, 1, scale)
    gap = round(scale * 100 * pages.GAP)
    side = len(sheet) - 2 * gap
    wanted = Image.fromarray(digit // 2).resize((side, side), Image.Resampling.BICUBIC)
    found = sheet[gap : gap + side, gap : gap + side].astype(int)
    assert np.abs(found - np.asarray(wanted)).max() <= 20
    assert np.abs(found - np.asarray(wanted)).mean() < 0.5


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (300, 2), (3, 4, 3)])
def test_png_holds_its_pixels(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pages.save_png(pixels, tmp_path / "a.png", {})
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == ("L" if len(shape) == 2 else "RGB")
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def test_pages_too_large_to_hold_are_refused():
    pages.check_page(80, 80, 0.8)
    with pytest.raises(ValueError, match="pixels"):
        pages.check_page(1000, 1000, 0.8)


def test_png_carries_its_parameters(tmp_path, digit):
    path = tmp_path / "page.png"
    pages.save_png(pages.page(digit[None], 1, 1, 0.5), path, {"seed": 3, "labels": ["é"]})
    with Image.open(path) as opened:
        text = opened.text
    assert json.loads(text["parameters"]) == {"seed": 3, "labels": ["é"]}


def test_npz_is_what_numpy_reads(tmp_path, digit):
    labels = np.array([7, 7, 7])
    pages.save_npz(tmp_path / "a.npz", iter([np.stack([digit, digit]), digit[None]]), labels[:1], 3)
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["images"], np.stack([digit] * 3))
        np.testing.assert_array_equal(archive["labels"], labels)
        assert archive["labels"].dtype == np.int64


def test_what_is_no_file_is_not_replaced(tmp_path, digit):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "link.png", "loop.png"):
        with pytest.raises(OSError, match=r"pipe|loop"):
            pages.save_png(pages.page(digit[None], 1, 1, 0.5), tmp_path / name, {})
    assert (tmp_path / "pipe.png").is_fifo()


def test_a_link_to_a_file_of_another_kind_is_written_as_it_says(tmp_path, digit):
    (tmp_path / "page.png").symlink_to("page.jpg")
    pages.save_png(pages.page(digit[None], 1, 1, 0.5), tmp_path / "page.png", {"seed": 3})
    with Image.open(tmp_path / "page.jpg") as written:
        assert (written.format, written.text) == ("PNG", {"parameters": '{"seed": 3}'})


def test_a_failed_write_leaves_the_old_file(tmp_path, digit):
    def failing():
        yield digit[None]
        raise KeyboardInterrupt

    (tmp_path / "a.npz").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        pages.save_npz(tmp_path / "a.npz", failing(), np.array([7]), 1)
    assert (tmp_path / "a.npz").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
