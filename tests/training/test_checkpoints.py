import pytest
import torch

from tests.gaussian import gaussian_flow
from training import checkpoints, tensor_files
from training.checkpoints import Checkpoint, CheckpointError
from training.networks.autoencoders import AutoEncoder
from training.networks.flows import Flow


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


def test_networks_of_another_version_are_refused(tmp_path):
    whole = {"format": 1, "network": "Flow", "arguments": {}, "description": {}}
    for changed in ({"format": "1"}, {"network": "Other"}, {"arguments": 3}):
        tensor_files.write(tmp_path / "checkpoint", {}, whole | changed)
        with pytest.raises(CheckpointError, match="no network of this version"):
            checkpoints.load(tmp_path / "checkpoint", Flow)
    for missing in whole:
        tensor_files.write(tmp_path / "checkpoint", {}, {key: whole[key] for key in whole.keys() - {missing}})
        with pytest.raises(CheckpointError, match="no network of this version"):
            checkpoints.load(tmp_path / "checkpoint", Flow)
