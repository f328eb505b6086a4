import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import commands.evaluate
from commands.evaluate import Extent, evaluate
from commands.models import Choice
from evaluation import trained
from runtime.datasets import LabelledImages, find
from runtime.places import SHIPPED


def test_networks_learn_real_images_with_the_seeds_of_samples(root, monkeypatch):
    told, learnt = Mock(side_effect=[0.7, 0.5, 0.8, 0.6]), Mock(side_effect=[0.91, 0.99, 0.93, 0.97])
    monkeypatch.setattr(trained, "two_sample_accuracy", told)
    monkeypatch.setattr(trained, "learning_accuracy", learnt)
    extent = Extent("test", 2, num=None, train_networks=True, nearest=None, record=False)
    found = json.loads(evaluate(Choice(find("MNIST", size="nano")), root, {}, extent, as_json=True))["other"]
    assert [call.args[2] for call in told.call_args_list] == [0, 0, 1, 1]
    assert [call.args[3] for call in learnt.call_args_list] == [0, 0, 1, 1]
    assert found["mean"]["two_sample_accuracy"] == pytest.approx(0.75)
    assert found["real"]["two_sample_accuracy"] == pytest.approx(0.55)
    assert found["mean"]["train_on_samples"] == pytest.approx(0.92)
    assert found["real"]["train_on_samples"] == pytest.approx(0.98)


def test_fewer_images_are_evenly_spread_and_a_recorded_command_runs_again():
    data = LabelledImages(np.zeros((10, 28, 28), np.uint8), np.arange(10))
    assert commands.evaluate._some(data, 4, "test").labels.tolist() == [0, 3, 6, 9]
    extent = Extent("test", 2, num=None, train_networks=False, nearest=None, record=True)
    mine = {Path("rungs/small"): "rungs/small", Path("MNIST"): "./MNIST", Path("/elsewhere/MNIST"): "./MNIST"}
    shipped = {SHIPPED / "MNIST": "MNIST", SHIPPED / "MNIST-compact.tar.xz": "MNIST-compact"}
    for path, named in {**shipped, **mine}.items():
        bundle = Mock(path=path)
        assert f"--bundle {named} --part" in commands.evaluate._command(Choice(find("MNIST"), bundle=bundle), extent)
