import gzip
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import datasets
from runtime.errors import DataError, MissingDataError
from tests.damage import damaged


@pytest.mark.parametrize("key", ["MNIST", "FashionMNIST", "EMNIST-balanced", "EMNIST-byclass"])
def test_parts_are_read_and_disjoint(root, key):
    dataset = datasets.DATASETS[key]
    parts = {part: datasets.load(dataset, root, part) for part in datasets.PARTS}
    assert {part: len(data.images) for part, data in parts.items()} == {"train": 218, "validation": 22, "test": 120}
    for images, labels in parts.values():
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), 28, 28)
        assert labels.dtype == np.int64
        assert labels.max() < len(dataset.classes)
    everything = {image.tobytes() for data in parts.values() for image in data.images}
    assert len(everything) == 360


def test_class_names():
    assert len(datasets.find("EMNIST", "balanced").classes) == 47
    byclass = datasets.find("EMNIST", "byclass").classes
    assert (byclass[10], byclass[35], byclass[36], byclass[61]) == ("A", "Z", "a", "z")
    assert datasets.find("EMNIST", "bymerge").classes[36:] == tuple("abdefghnqrt")
    assert datasets.find("MNIST", "byclass").key == "MNIST"
    assert [datasets.find(each.name, each.split) for each in datasets.DATASETS.values()] == [
        *datasets.DATASETS.values()
    ]
    for wrong, known in (("EMNIST", "letters"), "balanced"), (("EMNIST", "byclass", "huge"), "nano"), (("K",), "MNIST"):
        with pytest.raises(ValueError, match=known):
            datasets.find(*wrong)


def test_another_part_is_refused(root):
    with pytest.raises(ValueError, match="validation"):
        datasets.load(datasets.find("MNIST"), root, "val")


def test_an_array_of_no_elements_that_can_not_be_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\x00\x00\x08\x03" + np.array([0, 2**32 - 1, 2**32 - 1], ">u4").tobytes())
    with pytest.raises(DataError, match="damaged"):
        datasets.read_idx(path)


def test_emnist_is_upright(root):
    """A capital T has its bar at the top; as stored it lies on its side."""
    images, labels = datasets.load(datasets.find("EMNIST", "byclass"), root, "train")
    bars = images[labels == datasets.find("EMNIST", "byclass").classes.index("T")].astype(float).mean(0)
    assert bars[:14].sum() > bars[14:].sum()
    assert bars.sum(1).max() > bars.sum(0).max()


def idx(array):
    return b"\x00\x00\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_plain_and_gzipped_are_alike(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(datasets.read_idx(tmp_path / "a"), array)
    np.testing.assert_array_equal(datasets.read_idx(tmp_path / "a.gz"), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        b"PK\x03\x04" + bytes(50),
        b"\x00\x00\x0d\x01" + bytes(8),
        idx(np.zeros((2, 3), np.uint8))[:7],
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(DataError, match="broken"):
        datasets.read_idx(tmp_path / "broken")


def test_a_header_that_lies_is_refused(tmp_path):
    (tmp_path / "huge").write_bytes(b"\x00\x00\x08\x03" + b"\xff" * 12 + bytes(100))
    with pytest.raises(DataError, match="promises"):
        datasets.read_idx(tmp_path / "huge")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_cut_or_changed_byte_of_a_gzipped_file_is_noticed_or_harmless(tmp_path_factory, data):
    array = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    content = damaged(gzip.compress(idx(array), mtime=0), data)
    path = tmp_path_factory.mktemp("idx") / "file.gz"
    path.write_bytes(content)
    try:
        np.testing.assert_array_equal(datasets.read_idx(path), array)
    except DataError as error:
        assert "file.gz" in str(error)
        assert "\n" not in str(error)


def test_missing_files_are_named(tmp_path, mnist):
    with pytest.raises(MissingDataError, match="train-images-idx3-ubyte"):
        datasets.load(mnist, tmp_path, "train")
    assert len(datasets.missing_files(mnist, tmp_path, datasets.PARTS)) == 4
    assert [path.name[:4] for path in datasets.missing_files(mnist, tmp_path, ["test"])] == ["t10k", "t10k"]


def test_labels_that_do_not_fit_are_refused(tmp_path, root, mnist):
    shutil.copytree(root / "MNIST", tmp_path / "MNIST")
    labels = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.full(120, 10, np.uint8)))
    with pytest.raises(DataError, match="label 10"):
        datasets.load(mnist, tmp_path, "test")
    labels.write_bytes(idx(np.zeros(119, np.uint8)))
    with pytest.raises(DataError, match="119"):
        datasets.load(mnist, tmp_path, "test")


def test_pixels_of_0_and_1_only_are_refused(tmp_path, root, mnist):
    shutil.copytree(root / "MNIST", tmp_path / "MNIST")
    images = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    images.write_bytes(idx((datasets.load(mnist, root, "test").images > 127).astype(np.uint8)))
    with pytest.raises(DataError, match=r"t10k-images.*0 and 1 only"):
        datasets.load(mnist, tmp_path, "test")
