"""One image file of any kind: each is read right, or refused with the way out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fairquant.data.reading import read_image

pydicom = pytest.importorskip("pydicom")


def grey(values: np.ndarray, file, **options) -> np.ndarray:
    Image.fromarray(values).save(file)
    return read_image(file, values.shape[0], **options).pixels[..., 0]


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_read_by_their_depth_and_not_clipped(tmp_path, ending):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    assert np.abs(grey(values, tmp_path / f"a{ending}").astype(int) - values // 257).max() <= 1
    read = read_image(tmp_path / f"a{ending}", 8)
    assert (read.kind, read.low, read.high, read.largest) == ("16-bit", 0, 65535, 65535)
    assert (read.pixels == read.pixels[..., :1]).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_declared_window_is_the_same_for_every_depth(tmp_path, kind):
    values = np.array([[0, 500], [1000, 4000]]).astype(kind)
    assert grey(values, tmp_path / "a.tif", intensity=(0.0, 1000.0)).tolist() == [[0, 128], [255, 255]]


def test_percentiles_are_of_the_image_itself(tmp_path):
    values = np.r_[np.zeros(1), np.linspace(100, 200, 398), np.full(1, 60000)].astype(np.uint16).reshape(20, 20)
    pixels = grey(values, tmp_path / "a.png", intensity="percentile")
    assert pixels.min() == 0
    assert (pixels == 255).sum() <= 6
    assert 110 < np.median(pixels) < 145


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_without_a_known_range_are_refused_with_the_way_out(tmp_path, kind):
    with pytest.raises(
        ValueError, match=r"have no full range: set dataset.intensity to percentile or to \[low, high\]"
    ):
        grey(np.ones((4, 4), kind), tmp_path / "a.tif")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not all finite numbers"):
        grey(np.array([[0, np.nan], [1, 2]], np.float32), tmp_path / "a.tif", intensity="percentile")


def test_pictures_of_eight_bits_of_every_mode_become_rgb(tmp_path):
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        ending = "tif" if mode in ("CMYK", "YCbCr") else "png"
        Image.new("RGB", (9, 6), (200, 200, 200)).convert(mode).save(tmp_path / f"{mode}.{ending}")
        read = read_image(tmp_path / f"{mode}.{ending}", 4)
        assert read.pixels.shape == (4, 4, 3)
        assert read.kind == ""
        assert abs(int(read.pixels.mean()) - (255 if mode == "1" else 200)) <= (60 if mode == "1" else 3), mode


def test_transparent_pixels_are_black_and_said(tmp_path):
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png", 8).kind == ""
    pixels[:4, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "half.png")
    read = read_image(tmp_path / "half.png", 8)
    assert read.kind == "transparent"
    assert read.pixels[0].max() == 0
    assert read.pixels[-1].min() == 200


def test_a_photograph_is_turned_upright(tmp_path):
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[:20] = 255  # white above black
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.jpg", exif=exif)
    square = read_image(tmp_path / "turned.jpg", 16).pixels
    assert square[:6].max() < 30
    assert square[-6:].min() > 225


@pytest.mark.parametrize("ending", ["gif", "tif", "png"])
def test_several_frames_are_refused(tmp_path, ending):
    first, *rest = (Image.new("L", (5, 5), shade) for shade in (10, 90, 170))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=rest)
    with pytest.raises(
        ValueError, match="3 frames or pages: save the one that the model is to see as a file of its own"
    ):
        read_image(tmp_path / f"a.{ending}", 5)


def test_a_truncated_file_is_an_error(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-3000])
    with pytest.raises(OSError, match="truncated"):
        read_image(tmp_path / "a.png", 16)


def dicom(file, values: np.ndarray, **tags: object) -> None:
    """A minimal DICOM file of grey values."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    data, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = int(values.dtype == np.int16)
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(file, enforce_file_format=True)


VALUES = np.array([[0, 1000], [2000, 4095]], np.uint16)


@pytest.mark.parametrize(
    ("tags", "intensity", "pixels"),
    [
        ({}, "full", [[0, 62], [125, 255]]),  # 12 bits
        ({"PhotometricInterpretation": "MONOCHROME1"}, "full", [[255, 193], [130, 0]]),
        ({"WindowCenter": 1000.5, "WindowWidth": 2001}, "full", [[0, 128], [255, 255]]),
        ({"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, "full", [[0, 128], [255, 255]]),
        ({"WindowCenter": [1000.5, 5], "WindowWidth": [2001, 2]}, "full", [[0, 128], [255, 255]]),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000.5, "WindowWidth": 2001}, "full", [[0, 128], [255, 255]]),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000}, (0.0, 2000.0), [[0, 128], [255, 255]]),
        ({"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": "SIGMOID"}, "full", [[0, 128], [255, 255]]),
    ],
)  # fmt: skip
def test_dicom_is_shown_as_it_wants_to_be(tmp_path, tags, intensity, pixels):
    dicom(tmp_path / "a.dcm", VALUES, **tags)
    read = read_image(tmp_path / "a.dcm", 2, intensity)
    assert read.kind == "DICOM"
    assert np.abs(read.pixels[..., 0].astype(int) - pixels).max() <= 1


def test_a_dicom_file_is_known_by_its_content_and_one_of_several_frames_refused(tmp_path):
    dicom(tmp_path / "IM0001", VALUES)
    assert read_image(tmp_path / "IM0001", 2).kind == "DICOM"
    dicom(tmp_path / "b.dcm", np.stack([VALUES, VALUES]), NumberOfFrames=2)
    with pytest.raises(ValueError, match="2 frames or pages"):
        read_image(tmp_path / "b.dcm", 2)


def test_a_window_of_one_value_divides_and_one_of_none_is_refused(tmp_path):
    dicom(tmp_path / "a.dcm", VALUES, WindowCenter=1000.5, WindowWidth=1)
    assert read_image(tmp_path / "a.dcm", 2).pixels[..., 0].tolist() == [[0, 0], [255, 255]]
    dicom(tmp_path / "b.dcm", VALUES, WindowCenter=1000, WindowWidth=0)
    with pytest.raises(ValueError, match="its window is 0 wide around 1000: set dataset.intensity"):
        read_image(tmp_path / "b.dcm", 2)
    few = np.zeros((20, 20), np.uint16)
    few[0, 0] = 9
    assert grey(few, tmp_path / "c.png", intensity="percentile")[0, 0] == 255


def test_tiff_says_whether_0_is_white_and_whether_there_is_a_sign(tmp_path):
    values = np.array([[0, 65535], [0, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert read_image(tmp_path / "a.tif", 2).pixels[..., 0].tolist() == [[255, 0], [255, 0]]
    large = np.array([[0, 2**31], [2**32 - 1, 2**31]], np.uint32)
    Image.fromarray(large.view(np.int32)).save(tmp_path / "b.tif")  # Pillow writes a sign: tag 339, short, one value, 2
    written = (tmp_path / "b.tif").read_bytes()
    signed = bytes([0x53, 0x01, 3, 0, 1, 0, 0, 0, 2, 0])
    assert written.count(signed) == 1
    (tmp_path / "b.tif").write_bytes(written.replace(signed, bytes([*signed[:-2], 1, 0])))
    assert read_image(tmp_path / "b.tif", 2, (0.0, 2.0**32)).pixels[..., 0].tolist() == [[0, 128], [255, 128]]


def test_dicom_in_colour_is_read_by_the_bits_that_are_stored(tmp_path):
    values = np.array([[[0, 500, 1023], [1023, 0, 0]], [[0, 0, 0], [1023, 1023, 1023]]], np.uint16)
    dicom(
        tmp_path / "a.dcm", values[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsStored=10, HighBit=9,
    )  # fmt: skip
    from pydicom import dcmread

    data = dcmread(tmp_path / "a.dcm")
    data.PixelData = values.tobytes()
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    pixels = read_image(tmp_path / "a.dcm", 2).pixels
    assert np.abs(pixels.astype(int) - (values / 1023 * 255)).max() <= 1


def test_a_dicom_file_that_is_nearly_black_says_so(tmp_path):
    from fairquant.data.images import decode_images
    from fairquant.roles import DataContext

    dicom(tmp_path / "a.dcm", (VALUES // 16).astype(np.uint16))
    (note, dark) = decode_images([tmp_path / "a.dcm"], DataContext(0, 2, tmp_path / "cache"), 0).notes
    assert note.startswith("1 DICOM image(s), such as a.dcm")
    assert dark.startswith("the largest value in 1 DICOM image(s) is 255 of 4095: they are read as nearly black")


@pytest.mark.parametrize("window", [{"WindowCenter": "nan"}, {"WindowWidth": "nan"}, {"WindowWidth": "inf"}], ids=str)
def test_a_window_that_is_no_number_is_refused(tmp_path, window):
    dicom(tmp_path / "a.dcm", VALUES, **{"WindowCenter": 1000, "WindowWidth": 100, **window})
    with pytest.raises(ValueError, match="its window is"):
        read_image(tmp_path / "a.dcm", 2)


def test_a_table_for_values_says_their_range(tmp_path):
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.add_new("LUTData", "US", [4 * n for n in range(4096)])
    dicom(tmp_path / "a.dcm", np.array([[0, 4095], [2048, 0]], np.uint16), ModalityLUTSequence=[table])
    assert read_image(tmp_path / "a.dcm", 2).pixels[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize(("bits", "factor"), [(8, 1), (16, 257)])
def test_a_palette_is_read_by_the_bits_of_its_entries(tmp_path, bits, factor):
    entries = (np.array([0, 255, 128, 64], np.uint8 if bits == 8 else np.uint16) * factor).tobytes()
    palette = {
        f"{colour}PaletteColorLookupTable{what}": value
        for colour in ("Red", "Green", "Blue")
        for what, value in (("Descriptor", [4, 0, bits]), ("Data", entries))
    }
    dicom(
        tmp_path / "a.dcm", np.array([[0, 1], [2, 3]], np.uint16), PhotometricInterpretation="PALETTE COLOR", **palette
    )
    assert read_image(tmp_path / "a.dcm", 2).pixels[..., 0].tolist() == [[0, 255], [128, 64]]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is an empty file"), (b"text", "is no image of a known format")]
)
def test_what_is_no_image_says_so_without_an_address_in_memory(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "a.png", 2)


def test_what_lacks_pixels_or_has_too_many_is_refused(tmp_path, monkeypatch):
    from fairquant.data import dicom as module

    dicom(tmp_path / "a.dcm", VALUES)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    monkeypatch.setattr(module, "MOST_PIXELS", 3)
    with pytest.raises(ValueError, match="2 x 2 pixels are more than"):
        read_image(tmp_path / "a.dcm", 2)
    monkeypatch.undo()
    data.PixelData = pydicom.encaps.encapsulate([b"no jpeg"])
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(ValueError, match="its pixels cannot be decoded"):
        read_image(tmp_path / "b.dcm", 2)
    del data.PhotometricInterpretation, data.BitsStored
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(ValueError, match="has no PhotometricInterpretation, BitsStored: it is no image"):
        read_image(tmp_path / "b.dcm", 2)


def test_deflated_elements_are_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    from fairquant.data import dicom as module

    dicom(tmp_path / "a.dcm", VALUES)
    expected = read_image(tmp_path / "a.dcm", 2).pixels
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert np.array_equal(read_image(tmp_path / "b.dcm", 2).pixels, expected)
    monkeypatch.setattr(module, "UNPACKED", 100)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_image(tmp_path / "b.dcm", 2)
    content = (tmp_path / "b.dcm").read_bytes()
    (tmp_path / "c.dcm").write_bytes(content[:140] + bytes(4) + content[144:])
    with pytest.raises(ValueError, match="do not begin where it says"):
        read_image(tmp_path / "c.dcm", 2)
