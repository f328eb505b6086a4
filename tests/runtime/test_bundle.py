import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime
from runtime import bundle as bundles
from runtime import manifests
from runtime.errors import BundleError
from runtime.settings import way_of


@pytest.fixture
def copy(gaussian_bundle, tmp_path):
    return shutil.copytree(gaussian_bundle, tmp_path / "copy")


def rewrite(folder, change):
    """Change a manifest and give it the checksum it then has."""
    path = folder / manifests.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["checksum"] = manifests.checksum(manifest)
    path.write_text(json.dumps(manifest))


def test_reads_what_was_written(copy):
    bundle = bundles.read(copy)
    assert bundle.classes == tuple("0123456789")
    assert bundle.latent_shape == (1, 7, 7)
    assert set(bundle.graphs) == set(manifests.GRAPHS)


def test_unknown_names_list_the_shipped_ones():
    with pytest.raises(BundleError, match="MNIST"):
        bundles.read("nowhere")


def test_names_are_of_shipped_bundles_and_paths_of_others(copy, tmp_path, monkeypatch):
    shutil.copytree(copy, tmp_path / "MNIST")
    monkeypatch.chdir(tmp_path)
    own, shipped = bundles.read(tmp_path / "MNIST").checksum, bundles.read("MNIST").checksum
    assert own != shipped
    for path in ("./MNIST", "MNIST/", Path("MNIST"), "copy/../MNIST"):
        assert bundles.read(path).checksum == own
    assert bundles.read(Path("MNIST-nano")).checksum == bundles.read("MNIST-nano").checksum
    with pytest.raises(BundleError, match="no bundle"):
        bundles.read("./MNIST-nano")


def test_a_manifest_signed_anew_for_other_latents_is_a_bundle_error(copy):
    rewrite(copy, lambda manifest: manifest.update(latent_shape=[2, 7, 7]))
    with pytest.raises(BundleError, match=r"generate\.onnx can't be run"):
        runtime.load(copy).generate([0])


def test_a_manifest_signed_anew_for_fewer_classes_is_a_bundle_error(copy):
    rewrite(copy, lambda manifest: manifest["dataset"].update(classes=list("012345678"), prior=[1 / 9] * 9))
    with pytest.raises(BundleError, match=r"classify\.onnx .* does not tell its classes apart"):
        runtime.load(copy).classify(np.zeros((1, 28, 28), np.uint8), rule="denoising")


@pytest.mark.parametrize(
    "other",
    [
        {"fidelity": "high"},
        {"fidelity": None},
        {"second": 3},
        {"second": {"recall": []}},
        {"second": {"second": {}}},
        [],
    ],
)
def test_measured_figures_are_numbers(copy, other):
    rewrite(copy, lambda manifest: manifest.update(measured=other))
    with pytest.raises(BundleError, match="lacks what format"):
        bundles.read(copy)


def test_a_data_set_that_is_no_word_is_a_bundle_error(copy):
    rewrite(copy, lambda manifest: manifest["dataset"].update(key=["MNIST"]))
    with pytest.raises(BundleError, match="key is a word"):
        bundles.read(copy)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "a\0b", "..", ".", "a\nb", "a\\b", "a" * 101, "\ud800"])
def test_names_that_are_paths_are_refused(copy, name):
    rewrite(copy, lambda manifest: manifest.update(name=name))
    with pytest.raises(BundleError, match="name is that of a folder"):
        bundles.read(copy)


def test_only_bundles_are_replaced(copy, tmp_path):
    assert bundles.is_replaceable(copy)
    assert bundles.is_replaceable(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    assert bundles.is_replaceable(tmp_path / "empty")
    (copy / "NOTES.md").write_text("years")
    assert not bundles.is_replaceable(copy)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    assert not bundles.is_replaceable(tmp_path / "web")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_a_manifest_is_noticed_or_harmless(copy, data):
    path = copy / manifests.MANIFEST
    original = path.read_bytes()
    content = bytearray(original)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read = bundles.read(copy)
        assert dict(read.manifest) == json.loads(original)
    except BundleError as error:
        assert "manifest.json" in str(error)
        assert "\n" not in str(error)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("file", manifests.GRAPHS)
def test_damaged_and_missing_graphs_are_named(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(BundleError, match=f"{file} is damaged"):
        bundles.read(copy)
    (copy / file).write_bytes(content[:100])
    with pytest.raises(BundleError, match=f"{file} is damaged"):
        bundles.read(copy)
    (copy / file).unlink()
    with pytest.raises(BundleError, match=file):
        bundles.read(copy)


def test_a_cut_manifest_is_named(copy):
    path = copy / manifests.MANIFEST
    content = path.read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        with pytest.raises(BundleError, match="damaged"):
            bundles.read(copy)


def test_a_solver_beside_a_generator_has_a_weight_of_its_own(generator_bundle, tmp_path):
    copy = shutil.copytree(generator_bundle, tmp_path / "copy")
    rewrite(copy, lambda manifest: manifest["defaults"].update(weight=2.0, solver_weight=1.0))
    bundle = bundles.read(copy)
    assert [way_of(bundle, 0, **given).weight for given in ({}, {"steps": 3}, {"steps": 3, "weight": 1.5})] == [
        2,
        1,
        1.5,
    ]


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"format": "1"}', b"[" * 100_000, b'{"format": 1e999}'])
def test_other_json_is_refused(copy, content):
    (copy / manifests.MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        bundles.read(copy)


@pytest.mark.parametrize(("number", "cure"), [(7, "update"), (1, "export it again")])
def test_other_formats_are_refused_by_number(copy, number, cure):
    rewrite(copy, lambda manifest: manifest.update(format=number))
    with pytest.raises(BundleError, match=f"format {number}.*{cure}"):
        bundles.read(copy)
    assert bundles.is_replaceable(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("latent_shape"),
        lambda m: m["dataset"].update(prior=[1.0]),
        lambda m: m["dataset"].update(prior=[1.0] * 10),
        lambda m: m["classifier"].update(rule="guess"),
        lambda m: m["classifier"]["bank"].update(times=[]),
        lambda m: m["files"].pop("flow.onnx"),
        lambda m: m.update(files=[]),
        lambda m: m["defaults"].update(steps=0),
        lambda m: m["defaults"].update(steps=2.5),
        lambda m: m["defaults"].update(weight=float("nan")),
        lambda m: m["defaults"].update(steps=2000),
        lambda m: m["defaults"].update(diffusion="much"),
        lambda m: m.update(latent_shape=[49]),
        lambda m: m.update(latent_shape=[-1, 7, 7]),
        lambda m: m.update(latent_shape=[10**9, 7, 7]),
        lambda m: m["classifier"]["bank"].update(seed=-1),
        lambda m: m["classifier"]["bank"]["weights"].__setitem__(0, float("nan")),
        lambda m: m["classifier"].update(least_log_density=float("nan")),
        lambda m: m["classifier"].update(likelihood_steps=10**30),
        lambda m: m["provenance"]["flow"].update(sha256=3),
        lambda m: m["defaults"].update(weight=500.0),
        lambda m: m["defaults"].update(solver_weight=500.0),
        lambda m: m["defaults"].update(solver_weight=float("nan")),
        lambda m: m["defaults"].update(diffusion=99.0),
        lambda m: m.pop("provenance"),
        lambda m: m.pop("measured"),
        lambda m: m.pop("storage"),
        lambda m: m["provenance"]["flow"].update(before={}),
        lambda m: m["files"]["flow.onnx"].pop("bytes"),
        lambda m: m["files"]["flow.onnx"].update(largest_error="none"),
        lambda m: m["classifier"]["temperatures"].update(ode=0),
        lambda m: (m["defaults"].update(sampler="few"), m.update(generator={"weights": [2, 3]})),
        lambda m: m["files"]["flow.onnx"].update(weights_in=["../flow.onnx"]),
        lambda m: m.update(files={"generate.onnx": {**m["files"]["generate.onnx"], "weights_in": ["classify.onnx"]}}),
    ],
)
def test_manifests_whose_parts_do_not_fit_are_refused(copy, change):
    rewrite(copy, change)
    with pytest.raises(BundleError, match=f"format {manifests.FORMAT}"):
        bundles.read(copy)


def test_file_names_stay_inside_the_folder(copy):
    shutil.copy(copy / "flow.onnx", copy.parent / "outside")
    rewrite(copy, lambda m: m["files"].update({"../outside": m["files"]["flow.onnx"]}))
    with pytest.raises(BundleError):
        bundles.read(copy)


def test_weights_that_are_another_file_s_by_now_are_refused(copy):
    bundle = bundles.read(copy)
    assert bundle.graph("flow.onnx") == copy / "flow.onnx"
    assert bundle.graph("classify.onnx") == bundle.graphs["classify.onnx"]
    other = bundle.manifest["files"]["flow.onnx"]["weights_in"][0]
    (copy / other).write_bytes(bundle.graphs[other] + b"more")
    with pytest.raises(BundleError, match=f"{other} is damaged"):
        bundle.graph("flow.onnx")
    assert bundle.graph("classify.onnx") == bundle.graphs["classify.onnx"]
