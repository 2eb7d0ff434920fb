"""One file as pixels: of every mode and format, of any shape, damaged or not."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from support.messy import FILES, noise

from siamese.decoding import colour, formats
from siamese.decoding import decode as decoding_module
from siamese.decoding.decode import FRAMES, NO_EXIF, DamagedError, Decoding, decode
from siamese.decoding.resize import fitted

PLAIN = Decoding(16, "crop", [255, 255, 255], "refuse", None, 1)


def of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def cropped(image: Image.Image, side: int) -> Image.Image:
    """The centre of ``image``, resized by Pillow."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BICUBIC)


def nearly(pixels: np.ndarray, expected: np.ndarray) -> bool:
    """Whether they differ by a level or two, as rounding at another place does, and hardly on average."""
    apart = np.abs(pixels.astype(int) - expected)
    return bool(apart.max() <= 2 and apart.mean() < 0.2)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "YCbCr", "LAB"])
@pytest.mark.parametrize("size", [(16, 16), (30, 20), (7, 5), (200, 40)])
def test_eight_bits_are_decoded_as_before(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = Image.fromarray(noise(size[1], size[0])).convert(mode)
    suffix = {"YCbCr": "jpg", "LAB": "tif"}.get(mode, "png")
    path = saved(tmp_path / f"x.{suffix}", image)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    pixels, notes = decode(path, PLAIN)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, of(expected)) if size == (16, 16) else nearly(pixels, of(cropped(expected, 16)))
    assert notes == ()


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_an_image_of_the_size_wanted(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    for fit in ("crop", "pad", "stretch"):
        pixels, _ = decode(tmp_path / name, dataclasses.replace(PLAIN, image_size=[12, 20], fit=fit))
        assert pixels.shape == (3, 12, 20)
        assert pixels.dtype == np.uint8
        assert pixels.std() > 0 or name == "dot.png"


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_as_pillow_brings_them(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"x.{suffix}", Image.fromarray(noise(20, 30)), exif=exif)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened)
    width, height = expected.size
    assert (width > height) is (orientation < 5)
    pixels, _ = decode(path, dataclasses.replace(PLAIN, image_size=[height, width]))
    assert np.array_equal(pixels, of(expected))


def test_exif_that_cannot_be_read_does_not_damage_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(noise(16, 16)))

    def broken(self: Image.Image) -> None:
        raise struct.error("unpack requires a buffer of 2 bytes")

    expected = decode(path, PLAIN)
    monkeypatch.setattr(Image.Image, "getexif", broken)
    pixels, notes = decode(path, PLAIN)
    assert np.array_equal(pixels, expected.pixels)
    assert notes == (NO_EXIF,)


# -- shapes ----------------------------------------------------------------------------------------


@given(width=st.integers(1, 300), height=st.integers(1, 300), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
@settings(max_examples=80, deadline=None)
def test_a_whole_image_is_centred_on_its_background(width: int, height: int, size: tuple[int, int]) -> None:
    red = Image.new("RGB", (width, height), (255, 0, 0))
    how = dataclasses.replace(PLAIN, image_size=list(size), fit="pad", background=[0, 0, 255])
    file = io.BytesIO()
    red.save(file, "PNG")
    with Image.open(file) as image:
        pixels = decoding_module._decode(image, how).pixels
    inside = pixels[0] == 255
    assert np.array_equal(pixels[2] == 255, ~inside)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(rows) * len(columns)  # a rectangle
    for found, whole, length in ((rows, size[0], height), (columns, size[1], width)):
        scale = min(size[0] / height, size[1] / width)
        assert abs(len(found) - max(1, length * scale)) <= 0.5
        assert abs(found[0] - (whole - 1 - found[-1])) <= 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (2, 3000)])
def test_extreme_shapes(shape: tuple[int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", Image.new("RGB", (shape[1], shape[0]), (9, 99, 199)))
    for fit in ("crop", "stretch"):
        assert (decode(path, dataclasses.replace(PLAIN, fit=fit)).pixels == np.array([[[9]], [[99]], [[199]]])).all()
    assert (decode(path, dataclasses.replace(PLAIN, fit="pad")).pixels == 99).any()


def test_stretch_is_out_of_proportion(tmp_path: Path) -> None:
    image = Image.fromarray(noise(40, 20))
    pixels, _ = decode(saved(tmp_path / "x.png", image), dataclasses.replace(PLAIN, fit="stretch"))
    assert nearly(pixels, of(image.resize((16, 16), Image.Resampling.BICUBIC)))


@given(sides=st.tuples(*[st.integers(1, 300)] * 2), size=st.tuples(*[st.integers(1, 40)] * 2), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_centre_is_resized_as_pillow_does(sides: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    image = Image.fromarray(noise(*sides, seed=seed))
    pixels = fitted(image, size, "crop", (0, 0, 0))
    scale = min(image.width / size[1], image.height / size[0])
    across, down = (max(1, round(side * scale)) for side in reversed(size))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    assert (across, down) == image.size or across == image.width or down == image.height
    expected = image.crop((left, top, left + across, top + down)).resize(size[::-1], Image.Resampling.BICUBIC)
    apart = np.abs(pixels.astype(int) - of(expected))
    assert apart.max() <= 2 or (across < size[1] and down > size[0])  # there, torch's passes have another order


def test_a_centre_of_an_odd_shape_is_in_whole_pixels() -> None:
    image = Image.fromarray(noise(37, 500))
    assert np.array_equal(fitted(image, (37, 50), "crop", (0, 0, 0)), of(image.crop((225, 0, 275, 37))))


# -- large images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "decoded_at"), [(700, 900, (113, 88)), (80, 300, (150, 40)), (128, 300, (75, 32))]
)
def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(
    height: int, width: int, decoded_at: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(noise(height, width)), quality=95)
    seen = []

    def seeing(image: Image.Image, background: tuple[int, ...]) -> tuple[Image.Image, str | None]:
        seen.append(image.size)
        return colour.colours(image, background)

    monkeypatch.setattr(decoding_module, "colours", seeing)
    reduced, _ = decode(path, PLAIN)
    monkeypatch.setattr(decoding_module, "REDUCED", 10**6)
    whole, _ = decode(path, PLAIN)
    assert seen == [decoded_at, (width, height)]
    assert np.abs(reduced.astype(int) - whole).max() <= 12  # whose centre is cut out of larger pixels


@pytest.mark.parametrize("side", [63, 64])
def test_a_jpeg_is_decoded_whole_up_to_four_times_the_size_wanted(side: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.jpg", Image.fromarray(noise(side, 300)))
    with Image.open(path) as opened:
        expected = cropped(opened.convert("RGB"), 16)
    assert nearly(decode(path, PLAIN).pixels, of(expected)) is (side == 63)


def test_pillows_limit_is_lifted_and_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    paths = [saved(tmp_path / f"{i}.png", Image.fromarray(noise(20, 30, seed=i))) for i in range(40)]
    with pytest.raises(Image.DecompressionBombError):
        Image.open(paths[0])
    with ThreadPoolExecutor(4) as pool:
        shapes = {decoded.pixels.shape for decoded in pool.map(lambda path: decode(path, PLAIN), paths)}
    assert shapes == {(3, 16, 16)}
    assert Image.MAX_IMAGE_PIXELS == 10
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DamagedError):
        decode(tmp_path / "x.png", PLAIN)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_an_image_larger_than_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png", Image.fromarray(noise(20, 30)))
    monkeypatch.setattr(decoding_module, "LARGE", 0)
    assert decode(path, PLAIN).pixels.shape == (3, 16, 16)
    monkeypatch.setattr(decoding_module, "total_memory", lambda: 1000)
    with pytest.raises(DamagedError, match="30 x 20 pixels would take"):
        decode(path, PLAIN)


# -- colours ---------------------------------------------------------------------------------------


def grey_of(path: Path, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    pixels, notes = decode(path, dataclasses.replace(PLAIN, image_size=list(values.shape)))
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[0], pixels[2])
    return pixels[0].astype(int), notes


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "big-endian tif"])
def test_sixteen_bits_are_scaled_by_their_range(suffix: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    path = tmp_path / f"x.{suffix.split()[-1]}"
    if suffix == "pgm":
        path.write_bytes(b"P5 11 9 65535\n" + values.astype(">u2").tobytes())
    elif suffix == "big-endian tif":
        Image.frombytes("I;16B", (11, 9), values.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(values).save(path)
    pixels, notes = grey_of(path, values)
    assert np.abs(pixels - values / 257).max() <= 0.5
    assert notes == ()


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(100, 4095, 20).astype(np.uint16),
        np.linspace(-3, 7, 20).astype(np.float32),
        np.linspace(-70_000, 2**30, 20).astype(np.int32),
    ],
    ids=["12 bits", "floating point", "32 bits"],
)
def test_other_values_are_scaled_by_their_own(values: np.ndarray, tmp_path: Path) -> None:
    values = values.reshape(4, 5)
    path = saved(tmp_path / "x.tif", Image.fromarray(values))
    pixels, notes = grey_of(path, values)
    low, high = float(values.min()), float(values.max())
    assert np.abs(pixels - (values - low) / (high - low) * 255).max() <= 0.51
    assert notes == (colour.OWN_RANGE,)


def test_floating_point_values_that_are_not_finite(tmp_path: Path) -> None:
    values = np.array([[0, 1, np.nan], [np.inf, -np.inf, 0.5]], dtype=np.float32)
    pixels, _ = grey_of(saved(tmp_path / "x.tif", Image.fromarray(values)), values)
    assert pixels.tolist() == [[0, 255, 0], [255, 0, 128]]
    with pytest.raises(DamagedError, match="no value is finite"):
        decode(saved(tmp_path / "nan.tif", Image.fromarray(np.full((2, 2), np.nan, np.float32))), PLAIN)


@pytest.mark.parametrize("value", [0, 7, 5000])
def test_values_that_are_all_one(value: int, tmp_path: Path) -> None:
    values = np.full((3, 3), value, np.uint16)
    pixels, _ = grey_of(saved(tmp_path / "x.png", Image.fromarray(values)), values)
    assert len(np.unique(pixels)) == 1


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "webp"), ("RGBA", "tif")])
def test_what_is_transparent_is_composed_on_the_background(mode: str, suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise(16, 16, 4)).convert(mode)
    path = saved(tmp_path / f"x.{suffix}", image, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    pixels, _ = decode(path, dataclasses.replace(PLAIN, background=[10, 200, 30]))
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + np.array([10, 200, 30]) * (1 - alpha)
    assert np.abs(pixels.transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "PA"])
def test_a_transparent_colour_shows_the_background(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), (200, 200, 200))
    image.paste((50, 50, 50), (0, 0, 8, 16))
    if mode == "P":
        image = image.quantize(4)
        hidden: object = image.getpixel((0, 0))
    else:
        image = image.convert("RGB" if mode == "PA" else mode)
        hidden = (50, 50, 50) if mode in ("RGB", "PA") else 50
    path = saved(tmp_path / ("x.gif" if mode == "PA" else "x.png"), image.quantize(4) if mode == "PA" else image,
                 transparency=0 if mode == "PA" else hidden)  # fmt: skip
    pixels, _ = decode(path, dataclasses.replace(PLAIN, background=[1, 2, 3]))
    left, right = pixels[:, 4, 2], pixels[:, 4, 13]
    assert sorted([left.tolist(), right.tolist()])[0] == [1, 2, 3]
    assert np.abs(max(left.tolist(), right.tolist())[0] - np.array([200, 50])).min() <= 2


def test_cmyk_goes_through_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(noise(16, 16)).convert("CMYK")
    plain = saved(tmp_path / "plain.jpg", image, quality=95)
    broken = saved(tmp_path / "broken.jpg", image, quality=95, icc_profile=b"no profile")
    with Image.open(plain) as opened:
        expected = of(opened)
    for path in (plain, broken):
        pixels, notes = decode(path, PLAIN)
        assert np.array_equal(pixels, expected)
        assert notes == (colour.NO_PROFILE,)
    asked = []

    def managed(image: Image.Image, source: object, target: object, outputMode: str) -> Image.Image:
        asked.append((image.mode, source, outputMode))
        return Image.new("RGB", image.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda file: file.read())
    monkeypatch.setattr(ImageCms, "profileToProfile", managed)
    pixels, notes = decode(broken, PLAIN)
    assert asked == [("CMYK", b"no profile", "RGB")]
    assert (pixels == np.array([[[1]], [[2]], [[3]]])).all()
    assert notes == ()


# -- frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "png"])
def test_the_first_frame_counts(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour_) for colour_ in ("red", "lime", "blue")]
    path = saved(tmp_path / f"x.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    pixels, notes = decode(path, PLAIN)
    assert pixels[0].min() > 240
    assert pixels[1:].max() < 15
    assert notes == (FRAMES,)
    assert decode(saved(tmp_path / f"one.{suffix}", frames[0]), PLAIN).notes == ()


def test_a_photograph_with_a_preview_is_one_image(tmp_path: Path) -> None:
    first, second = Image.fromarray(noise(16, 16)), Image.fromarray(noise(8, 8))
    path = saved(tmp_path / "x.mpo", first, save_all=True, append_images=[second])
    os.rename(path, tmp_path / "x.jpg")
    assert decode(tmp_path / "x.jpg", PLAIN).notes == ()


# -- damage ----------------------------------------------------------------------------------------


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "gif", "webp", "avif", "jp2"])
@pytest.mark.parametrize(
    "change", [cut(0), cut(0.1), cut(0.5), lambda content: b"<html>" * 50], ids=["0", "10", "50", "html"]
)
def test_damaged_files_are_said_to_be(suffix: str, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = saved(
        tmp_path / f"x.{suffix}", Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    )
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedError) as error:
        decode(path, PLAIN)
    assert "\n" not in str(error.value)
    assert str(path) not in str(error.value)
    assert str(error.value)


@given(st.sampled_from(["jpg", "png", "gif", "webp", "tif", "bmp", "ppm", "ico", "tga", "psd"]), st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_that_are_changed_give_an_image_or_damage(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    file = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF", "psd": "PNG"}.get(suffix, suffix.upper())
    Image.fromarray(noise(16, 16)).save(file, kind)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"x.{suffix}"
    path.write_bytes(content)
    said = ""
    try:
        assert decode(path, PLAIN).pixels.shape == (3, 16, 16)
    except DamagedError as damage:
        said = str(damage)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (
            lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "not an image that can be read",
        ),
    ],
    ids=["missing", "a folder", "a program"],
)
def test_what_is_no_image(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(DamagedError, match=says):
        decode(tmp_path / "x.png", PLAIN)


def test_a_plugin_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.delitem(Image.EXTENSION, ".heic", raising=False)
    with pytest.raises(DamagedError, match="can be read with the package pillow-heif only"):
        decode(tmp_path / "x.heic", PLAIN)


def test_images_are_known_by_what_pillow_reads() -> None:
    for name in ("a.jpg", "A.JPEG", "b.Png", "c.tiff", "d.webp", "e.heic", "f.AVIF", "g.bmp", "h.jp2", "i.j.gif"):
        assert formats.is_image_name(name), name
    for name in ("a.txt", "b.pdf", "c.h5", "d.eps", "e.mpg", "f", ".png", "g.json", "h.jpg.bak", "i.svg"):
        assert not formats.is_image_name(name), name
