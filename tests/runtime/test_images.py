import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import runtime
from runtime import images as pictures
from runtime import pages
from runtime.datasets import Framing, find, load
from runtime.errors import DataError
from tests.damage import damaged

WHOLE = Framing(28, by_mass=False)


@pytest.fixture(scope="module")
def digit(root):
    return load(find("MNIST"), root, "test").images[0]


def save(array, path, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_a_picture_of_the_right_size_is_read_as_it_is(tmp_path, digit):
    np.testing.assert_array_equal(pictures.read_picture(save(digit, tmp_path / "a.png")), digit)


def test_ink_on_paper_is_inverted(tmp_path, digit):
    path = save(255 - digit, tmp_path / "a.png")
    np.testing.assert_array_equal(pictures.read_picture(path), digit)
    np.testing.assert_array_equal(pictures.read_picture(path, "no"), 255 - digit)
    np.testing.assert_array_equal(pictures.read_picture(save(digit, tmp_path / "b.png"), "yes"), 255 - digit)


def test_other_modes_are_made_grey(tmp_path, digit):
    rgb = np.repeat(digit[..., None], 3, axis=2)
    np.testing.assert_allclose(pictures.read_picture(save(rgb, tmp_path / "rgb.png")), digit, atol=1)
    deep = digit.astype(np.uint16) * 257
    np.testing.assert_allclose(pictures.read_picture(save(deep, tmp_path / "deep.png")), digit, atol=1)
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[..., 3] = digit
    np.testing.assert_allclose(pictures.read_picture(save(ink, tmp_path / "ink.png")), digit, atol=1)
    ink[..., :3] = 255
    np.testing.assert_allclose(pictures.read_picture(save(ink, tmp_path / "light.png")), digit, atol=1)
    for scale, name in ((1.0, "bytes"), (1 / 255, "unit")):
        path = save((digit * scale).astype(np.float32), tmp_path / f"{name}.tif")
        np.testing.assert_allclose(pictures.read_picture(path), digit, atol=1)
    np.testing.assert_array_equal(pictures.read_picture(save(digit.astype(np.int32), tmp_path / "i.tif")), digit)
    Image.fromarray(digit).convert("P").save(tmp_path / "p.gif")
    np.testing.assert_allclose(pictures.read_picture(tmp_path / "p.gif"), digit, atol=1)


def test_floats_of_0_and_1_are_black_and_white(tmp_path, digit):
    path = save((digit > 127).astype(np.float32), tmp_path / "a.tif")
    np.testing.assert_array_equal(pictures.read_picture(path), np.where(digit > 127, 255, 0))


def test_values_a_little_above_one_are_of_zero_to_one(tmp_path, digit):
    path = save(digit.astype(np.float32) / 255 * 1.02, tmp_path / "a.tif")
    brighter = (np.minimum(digit / 255 * 1.02, 1) * 255).round()
    assert np.abs(pictures.read_picture(path) - brighter).max() <= 1


@pytest.mark.parametrize("times", [1, 16])
def test_sixteen_bits_may_hold_eight_or_twelve(tmp_path, digit, times):
    scan = Image.fromarray(digit.astype(np.uint16) * times)
    scan.save(tmp_path / "a.png")
    assert np.abs(pictures.read_picture(tmp_path / "a.png") - digit.astype(int)).max() <= 1


def test_another_way_to_invert_is_refused(tmp_path, digit):
    path = save(digit, tmp_path / "a.png")
    for invert in (True, "Yes"):
        with pytest.raises(ValueError, match="auto, yes, no"):
            pictures.read_picture(path, invert)


def test_a_name_too_long_for_a_file_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="no picture"):
        pictures.read_picture(tmp_path / ("a" * 300 + ".png"))
    with pytest.raises(DataError, match="is no file"):
        pictures.read_picture(tmp_path)


def test_values_that_are_no_picture_are_refused(tmp_path):
    for value in (np.nan, -1.0, 1e6):
        with pytest.raises(DataError, match=r"bad\.tif"):
            pictures.read_picture(save(np.full((28, 28), value, np.float32), tmp_path / "bad.tif"))


def test_large_pictures_are_squared_and_scaled(tmp_path, digit):
    large = np.kron(digit, np.ones((10, 10), np.uint8))
    wide = np.pad(large, ((0, 0), (60, 60)))
    found = pictures.read_picture(save(wide, tmp_path / "wide.png"))
    assert found.shape == (28, 28)
    assert found.max() > 100
    assert np.abs(pictures.read_picture(save(large, tmp_path / "large.png")).astype(int) - digit).mean() < 10


@pytest.mark.parametrize(("paper", "ink"), [(0, 255), (255, 0), (230, 40), (90, 160)])
@pytest.mark.parametrize("frame", [280, 600, 1500])
def test_what_is_drawn_is_framed_like_the_data_set_s_images(tmp_path, paper, ink, frame):
    drawn = np.full((frame, frame + 40), paper, np.uint8)
    drawn[60:200, 90:130] = ink
    drawn[60:90, 60:160] = ink
    framing = Framing(20, by_mass=False)
    image = pictures.read_picture(save(drawn, tmp_path / "a.png"), "auto", framing)
    rows, columns = (np.flatnonzero((image > 127).any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (4, 23)
    assert columns[-1] - columns[0] + 1 == pytest.approx(100 / 140 * 20, abs=1)
    assert image.max() == 255
    by_mass = pictures.read_picture(tmp_path / "a.png", "auto", Framing(20, by_mass=True))
    assert (by_mass * np.arange(28)[:, None]).sum() / by_mass.sum(dtype=int) == pytest.approx(13.5, abs=0.6)


def test_a_picture_of_nothing_is_refused(tmp_path):
    nothing = save(np.full((90, 50), 200, np.uint8), tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png has nothing drawn in it"):
        pictures.read_picture(nothing, framing=WHOLE)
    for level in (0, 127, 255):
        for framing in (None, WHOLE):
            with pytest.raises(DataError, match="nothing drawn"):
                pictures.read_picture(save(np.full((28, 28), level, np.uint8), tmp_path / "b.png"), framing=framing)
    for framing in (None, WHOLE):
        with pytest.raises(DataError, match="too faintly"):
            pictures.read_picture(save(np.eye(28, dtype=np.uint8), tmp_path / "b.png"), framing=framing)


@pytest.mark.parametrize("framing", [WHOLE, find("MNIST").framing])
def test_specks_that_are_too_small_are_nothing(tmp_path, framing):
    specks = np.full((560, 560), 255, np.uint8)
    specks[0, 0] = specks[-1, -1] = 0
    with pytest.raises(DataError, match="nothing drawn"):
        pictures.read_picture(save(specks, tmp_path / "a.png"), framing=framing)


def test_several_characters_are_worth_a_warning_and_one_with_a_gap_is_not(tmp_path):
    digits, framing = runtime.load("MNIST").generate([3, 1, 4, 1]), find("MNIST").framing
    for grid in ((1, 2), (1, 3), (2, 2), (2, 1), (3, 1)):
        row = save(pages.page(digits[: grid[0] * grid[1]], *grid, 1.0), tmp_path / "a.png")
        with pytest.warns(pictures.SeveralCharactersWarning, match=r"a\.png seems to show several"):
            image = pictures.read_picture(row, framing=framing)
        np.testing.assert_array_equal(pictures.examine(row, framing=framing)[0], image)
        assert not pictures.examine(row, framing=find("FashionMNIST").framing)[1]
    one = pages.page(digits[:1], 1, 1, 1.0)
    one[:, 42:44] = 0
    letter_i = np.zeros((120, 60), np.uint8)
    letter_i[20:32, 24:36] = letter_i[44:100, 26:34] = 255
    for image, known in ((one, "MNIST"), (letter_i, "EMNIST")):
        assert not pictures.examine(save(image, tmp_path / "a.png"), framing=find(known).framing)[1]


def test_what_is_small_in_a_large_picture_is_seen_as_well(tmp_path):
    framing, drawn = find("MNIST").framing, np.zeros((20, 20), np.uint8)
    drawn[2:18, 9:11] = drawn[8:10, 2:18] = drawn[14:16, 4:9] = 255
    wanted = pictures.read_picture(save(np.pad(drawn, 10), tmp_path / "a.png"), framing=framing)
    large = np.zeros((3001, 2500), np.uint8)
    large[2700:2720, 70:90] = drawn
    found = pictures.read_picture(save(large, tmp_path / "b.png"), framing=framing)
    assert np.abs(found.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (2, 2)])
def test_odd_shapes_can_be_framed(tmp_path, shape):
    drawn = np.zeros(shape, np.uint8)
    drawn[shape[0] // 2, shape[1] // 2] = 255
    assert pictures.read_picture(save(drawn, tmp_path / "a.png"), framing=WHOLE).any()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(3), b"\xff\xd8\xff\xe0" + bytes(20)]
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / "fake.png").write_bytes(content)
    with pytest.raises(DataError, match=r"fake\.png"):
        pictures.read_picture(tmp_path / "fake.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        pictures.read_picture(tmp_path / "gone.png")


@pytest.mark.parametrize("shape", [(1, 65_535), (65_535, 1), (1, 2), (3, 40)])
def test_odd_shapes_fit(tmp_path, shape):
    halves = np.where(np.arange(np.prod(shape)).reshape(shape) < np.prod(shape) / 2, 200, 30).astype(np.uint8)
    assert pictures.read_picture(save(halves, tmp_path / "odd.png")).shape == (28, 28)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_bombs_are_refused(tmp_path, side):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match=r"bomb\.png.*pixels"):
        pictures.read_picture(tmp_path / "bomb.png")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_cut_or_changed_byte_of_a_png_is_noticed_or_harmless(tmp_path_factory, digit, data):
    path = tmp_path_factory.mktemp("png") / "picture.png"
    save(digit, path)
    path.write_bytes(damaged(path.read_bytes(), data))
    try:
        np.testing.assert_array_equal(pictures.read_picture(path), digit)
    except DataError as error:
        assert "picture.png" in str(error)
        assert "\n" not in str(error)
