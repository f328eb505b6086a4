import pytest
import torch

from runtime.datasets import find
from runtime.errors import DataError, MissingDataError
from training import latents, tensor_files


def test_latents_of_another_data_set_are_refused(tmp_path):
    parts = ("train", "validation", "test")
    tensors = {f"{part}.mean": torch.zeros(2, 1, 7, 7) for part in parts}
    tensors |= {f"{part}.labels": torch.zeros(2) for part in parts}
    path = tmp_path / "z"
    source = {"dataset": "FashionMNIST", "kind": "vae", "encoder_sha256": "0"}
    tensor_files.write(path, tensors, {"source": source})
    assert latents.load(path, find("FashionMNIST")).encoder_sha256 == "0"
    with pytest.raises(DataError, match="FashionMNIST"):
        latents.load(path, find("MNIST"))
    with pytest.raises(MissingDataError, match="encode-dataset"):
        latents.load(tmp_path / "gone", find("MNIST"))
