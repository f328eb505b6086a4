import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.damage import damaged
from training import tensor_files
from training.tensor_files import TensorFileError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def test_reads_what_was_written(tmp_path):
    tensor_files.write(tmp_path / "new" / "file", TENSORS, {"x": {"y": [1, None]}})
    tensors, metadata = tensor_files.read(tmp_path / "new" / "file")
    torch.testing.assert_close(tensors, TENSORS)
    assert metadata == {"x": {"y": [1, None]}}


def test_equal_files_are_equal_in_every_byte(tmp_path):
    metadata = {name: name for name in "abcdefgh"}
    for name in ("one", "other"):
        tensor_files.write(tmp_path / name, TENSORS, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_cut_or_changed_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tensors") / "file"
    tensor_files.write(path, TENSORS, {"x": "y"})
    path.write_bytes(damaged(path.read_bytes(), data))
    try:
        tensors, metadata = tensor_files.read(path)
        torch.testing.assert_close(tensors, TENSORS)
        assert metadata == {"x": "y"}
    except TensorFileError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_files_of_others_are_refused(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "file")
    with pytest.raises(TensorFileError, match="damaged"):
        tensor_files.read(tmp_path / "file")
