import copy
import gc
import io
import lzma
import multiprocessing
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime
from runtime import bundle as bundles
from runtime import packing
from runtime.errors import BundleError
from tests.damage import damaged


@pytest.fixture
def packed(gaussian_bundle, tmp_path):
    path = tmp_path / "gaussian.tar.xz"
    bundles.pack(bundles.read(gaussian_bundle), path)
    return path


def archive(**files):
    """A packed bundle of these files."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    return lzma.compress(found.getvalue())


def test_a_packed_bundle_draws_and_reads_as_its_folder_does(gaussian_bundle, packed):
    folder, file = runtime.load(gaussian_bundle), runtime.load(packed)
    assert file.bundle.checksum == folder.bundle.checksum
    for more in ({}, {"steps": 3}):
        images = folder.generate([1, 2, 3], seed=4, **more)
        np.testing.assert_array_equal(file.generate([1, 2, 3], seed=4, **more), images)
    np.testing.assert_array_equal(file.classify(images), folder.classify(images))
    np.testing.assert_array_equal(file.encode(images), folder.encode(images))


def test_the_same_bundle_gives_the_same_file_which_unpacks_to_its_folder(gaussian_bundle, packed, tmp_path):
    again = tmp_path / "again.tar.xz"
    bundles.pack(bundles.read(packed), again)
    assert again.read_bytes() == packed.read_bytes()
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    for path in gaussian_bundle.iterdir():
        assert (tmp_path / "unpacked" / gaussian_bundle.name / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("prefix", ["", "./", "other/", "a/b/"])
def test_what_tar_makes_of_a_folder_is_read(gaussian_bundle, tmp_path, prefix):
    path = tmp_path / "tarred.tar.xz"
    path.write_bytes(archive(**{prefix + file.name: file.read_bytes() for file in gaussian_bundle.iterdir()}))
    assert bundles.read(path).checksum == bundles.read(gaussian_bundle).checksum


def test_measurements_are_recorded_in_the_file(packed):
    measured = bundles.read(packed)
    bundles.record_measurements(measured, {"fidelity": 0.5})
    assert bundles.read(packed).manifest["measured"] == {"fidelity": 0.5}
    with pytest.raises(BundleError, match="another bundle"):
        bundles.record_measurements(measured, {"fidelity": 0.6})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_noticed_or_harmless(gaussian_bundle, packed, data):
    content = packed.read_bytes()
    packed.write_bytes(damaged(content, data))
    try:
        assert bundles.read(packed).checksum == bundles.read(gaussian_bundle).checksum
    except BundleError as error:
        assert str(packed) in str(error)
        assert "\n" not in str(error)
    finally:
        packed.write_bytes(content)


def test_bytes_behind_the_archive_are_damage(packed, tmp_path):
    path = tmp_path / "longer.tar.xz"
    path.write_bytes(packed.read_bytes() + b"more")
    with pytest.raises(BundleError, match="to spare"):
        bundles.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"no archive", lzma.compress(b"no archive"), archive(), archive(**{"manifest.json": b"{}"})]
)
def test_what_is_no_packed_bundle_is_named(tmp_path, content):
    path = tmp_path / "wrong.tar.xz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"wrong\.tar\.xz"):
        bundles.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "gone"}, "no plain file"),
        ({"type": tarfile.LNKTYPE, "linkname": "more"}, "no plain file"),
        ({"pax_headers": {"GNU.sparse.size": str(1 << 32), "GNU.sparse.map": "0,0"}}, "no plain file"),
        ({"pax_headers": {"GNU.sparse.size": "many"}}, ""),
        ({"name": "manifest.json"}, "there twice"),
        ({"name": "other/more"}, "more than one folder"),
    ],
)
def test_what_a_folder_of_plain_files_does_not_hold_is_refused(tmp_path, changes, message):
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for facts in (tarfile.TarInfo("manifest.json"), tarfile.TarInfo("more")):
            for name, value in changes.items() if facts.name == "more" else ():
                setattr(facts, name, value)
            tar.addfile(facts)
    path = tmp_path / "wrong.tar.xz"
    path.write_bytes(lzma.compress(found.getvalue()))
    with pytest.raises(BundleError, match=rf"wrong\.tar\.xz.*{message}"):
        bundles.read(path)


def test_other_files_are_not_replaced(gaussian_bundle, packed, tmp_path):
    (tmp_path / "backup.tar.xz").write_bytes(archive(**{"thesis.txt": b"years"}))
    before = (tmp_path / "backup.tar.xz").read_bytes()
    with pytest.raises(BundleError, match="left as it is"):
        bundles.pack(bundles.read(gaussian_bundle), tmp_path / "backup.tar.xz")
    assert (tmp_path / "backup.tar.xz").read_bytes() == before
    bundles.pack(bundles.read(gaussian_bundle), packed)


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.packing._MAX_BYTES", 1 << 24)
    path = tmp_path / "large.tar.xz"
    path.write_bytes(archive(**{"manifest.json": bytes(1 << 25)}))
    with pytest.raises(BundleError, match="16 MB"):
        bundles.read(path)


def test_what_is_unpacked_goes_with_its_model_at_once(packed):
    model = runtime.load(packed)
    folder = model.bundle.graph("encoder.onnx").parent
    assert folder.is_dir()
    gc.disable()  # nothing is left to be found later
    try:
        model.encode(np.zeros((1, 28, 28), np.uint8))
        del model
        assert not folder.exists()
    finally:
        gc.enable()


def test_a_copy_unpacks_for_itself(packed):
    model = runtime.load(packed)
    images = np.zeros((2, 28, 28), np.uint8)
    wanted = model.encode(images)
    copies = [pickle.loads(pickle.dumps(model)), runtime.Model(copy.copy(model.bundle))]
    del model
    for each in copies:
        np.testing.assert_array_equal(each.encode(images), wanted)


def test_a_forked_process_leaves_what_its_parent_unpacked(packed):
    bundle = bundles.read(packed)
    folder = bundle.graph("encoder.onnx").parent
    child = multiprocessing.get_context("fork").Process(target=packing._remove, args=(folder, os.getpid()))
    child.start()
    child.join()
    assert folder.is_dir()


def test_many_headers_before_a_file_are_damage(tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    block = header.tobuf(tarfile.GNU_FORMAT) + b"name".ljust(tarfile.BLOCKSIZE, b"\0")
    path = tmp_path / "deep.tar.xz"
    path.write_bytes(lzma.compress(3000 * block + bytes(2 * tarfile.BLOCKSIZE)))
    with pytest.raises(BundleError, match="damaged"):
        bundles.read(path)
