import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.datasets import find
from runtime.errors import DataError, MissingDataError
from tests.damage import damaged
from tests.gaussian import gaussian_flow
from training import checkpoints, latents, tensor_files
from training.checkpoints import Checkpoint, CheckpointError
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow
from training.tensor_files import TensorFileError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def test_reads_what_was_written(tmp_path):
    tensor_files.write(tmp_path / "new" / "file", TENSORS, {"x": {"y": [1, None]}})
    tensors, metadata = tensor_files.read(tmp_path / "new" / "file")
    torch.testing.assert_close(tensors, TENSORS)
    assert metadata == {"x": {"y": [1, None]}}


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


def test_checkpoints_rebuild_their_network_from_every_argument(tmp_path):
    flow, path = gaussian_flow(), tmp_path / "flow.safetensors"
    checkpoints.save(Checkpoint(flow, {"dim1": 8, "n_layers": 1, "embedding": 4}, {"note": 1}), path)
    found = checkpoints.load(path, Flow)
    torch.testing.assert_close(found.network.state_dict(), flow.state_dict())
    assert found.description == {"note": 1}
    assert found.arguments["backbone"] == "mlp"
    assert found.arguments["classes"] == 10
    with pytest.raises(CheckpointError, match="not AutoEncoder"):
        checkpoints.load(path, AutoEncoder)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoints.load(tmp_path / "gone", Flow)


def test_files_of_others_are_refused(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "file")
    with pytest.raises(TensorFileError, match="damaged"):
        tensor_files.read(tmp_path / "file")
    whole = {"format": 1, "network": "Flow", "arguments": {}, "description": {}}
    for changed in ({"format": "1"}, {"network": "Other"}, {"arguments": 3}):
        tensor_files.write(tmp_path / "checkpoint", {}, whole | changed)
        with pytest.raises(CheckpointError, match="no network of this version"):
            checkpoints.load(tmp_path / "checkpoint", Flow)
    for missing in whole:
        tensor_files.write(tmp_path / "checkpoint", {}, {key: whole[key] for key in whole.keys() - {missing}})
        with pytest.raises(CheckpointError, match="no network of this version"):
            checkpoints.load(tmp_path / "checkpoint", Flow)


def test_latents_of_another_data_set_are_refused(tmp_path):
    parts = {
        f"{part}.{name}": torch.zeros(2, 1, 7, 7) for part in ("train", "validation", "test") for name in ("mean",)
    }
    labels = {f"{part}.labels": torch.zeros(2) for part in ("train", "validation", "test")}
    path = tmp_path / "z"
    source = {"dataset": "FashionMNIST", "kind": "vae", "encoder_sha256": "0"}
    tensor_files.write(path, parts | labels, {"source": source})
    assert latents.load(path, find("FashionMNIST")).encoder_sha256 == "0"
    with pytest.raises(DataError, match="FashionMNIST"):
        latents.load(path, find("MNIST"))
    with pytest.raises(MissingDataError, match="encode-dataset"):
        latents.load(tmp_path / "gone", find("MNIST"))
