import json
import shutil
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

import cli
import runtime
from commands import bench
from commands.models import bundle_called
from commands.pack import pack
from evaluation import benchmark, torch_benchmark
from runtime.places import SHIPPED, as_text


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(benchmark, "BATCHES", (1, 3))
    monkeypatch.setattr(benchmark, "LEAST_CALLS", 1)
    monkeypatch.setattr(benchmark, "SECONDS", 0.01)
    monkeypatch.setattr(bench, "_compiles", lambda: False)


def test_bench_measures_all_that_it_names(quick, tmp_path):
    found = json.loads(bench.bench(runtime.load("MNIST").bundle, [1], 400, tmp_path / "throughput.svg", as_json=True))
    assert "<svg" in (tmp_path / "throughput.svg").read_text()
    one = found["threads"]["1"]
    assert one["matrix_peak_gflops"] > 0
    assert set(one["start_seconds"]) == {"import", "load", "first image", "first classification"}
    assert [row["batch"] for row in one["throughput"]] == [1, 3]
    assert all(row["generate share of peak"] > 0 for row in one["throughput"])
    assert all(times["p50"] <= times["p95"] for times in one["latency_ms"].values())
    assert one["page_ms"]["reference's shape, eager PyTorch"]["times faster"] == 1
    assert one["classification_ms"]["onnxruntime"]["times faster"] > 0
    assert found["processes"]["ratio"]["seconds"] > 0
    assert found["to_disk"]["a second in memory"] > 0
    assert found["to_disk"]["megabytes"] > 0
    assert found["multiply_adds"]["generate"] > 0


def test_tables_have_every_figure(quick):
    text = bench.bench(runtime.load("MNIST").bundle, [1], None, None, as_json=False)
    for word in ("GFLOP/s", "one image", "of peak", "eager PyTorch", "ratio", "classify.onnx"):
        assert word in text


@pytest.mark.parametrize(
    ("name", "drawing", "classifying"), [("MNIST", 65e6, 625e6), ("EMNIST-balanced", 108e6, 4.7e9)]
)
def test_the_reference_costs_what_it_is_known_to(name, drawing, classifying):
    reference = torch_benchmark.Reference(len(runtime.load(name).classes)).eval()
    noise = torch.randn(1, 1, 7, 7)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        reference(noise, torch.tensor([1]), more_noise=lambda step: torch.randn_like(noise))
    assert counter.get_total_flops() / 2 == pytest.approx(drawing, rel=0.05)
    with FlopCounterMode(display=False) as counter:
        reference.errors(noise)
    assert counter.get_total_flops() / 2 == pytest.approx(classifying, rel=0.05)


@pytest.mark.parametrize("name", ["MNIST", "MNIST-fast"])
def test_pytorch_does_the_default_sampler_s_work(name):
    model = runtime.load(name)
    draw = torch_benchmark.sde_tasks(model, 4, compiled=False)["eager PyTorch, the default sampler"]
    with FlopCounterMode(display=False) as counter:
        draw()
    graph = model.bundle.manifest["files"]["generate.onnx"]["multiply_adds"]
    assert counter.get_total_flops() / 2 / 4 == pytest.approx(graph, rel=0.1)


def test_the_row_of_torch_compile_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    tasks = torch_benchmark.sde_tasks(runtime.load("MNIST"), 2, compiled=True)
    for name, frames in (("eager PyTorch", 0), ("torch.compile", 2)):  # a velocity's parts, and what they make of x
        counters.clear()
        tasks[name]()
        assert counters["frames"]["ok"] == frames


def test_a_bundle_that_only_generates_is_timed_by_the_command(quick, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.cli(["bench", "--size", "nano", "--threads", "1"])
    assert ended.value.code == 0
    assert "classify" not in capsys.readouterr().out


def test_a_packed_bundle_is_timed_from_where_it_lies(quick, tmp_path, monkeypatch, capsys):
    pack("MNIST-nano", tmp_path / "mine.tar.xz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.cli(["bench", "--bundle", "mine.tar.xz", "--threads", "1", "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"] == "MNIST-nano"
    assert found["processes"]["generate"]["seconds"] > 0


def test_a_bundle_called_like_a_shipped_one_is_not_taken_for_it(tmp_path, monkeypatch):
    shutil.copytree(SHIPPED / "MNIST-nano", tmp_path / "MNIST")
    monkeypatch.chdir(tmp_path)
    bundle = bundle_called("./MNIST")
    assert bundle_called(benchmark._drawing(bundle)[-1]).checksum == bundle.checksum
    assert bundle_called(as_text(bundle.path)).checksum == bundle.checksum
