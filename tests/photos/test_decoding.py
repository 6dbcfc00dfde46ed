"""Images from bytes: the size in a JPEG's header is that of the decoded image, at each reduction."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from custom_modules.photos import image_files
from custom_modules.photos.decoding import (
    REDUCTIONS,
    decode,
    decode_photo,
    greatest_reduction,
    jpeg_size,
    photo_problem,
)
from custom_modules.photos.fingerprint import fingerprint
from custom_modules.photos.image_files import file_problem, image_kind


def encoded(
    size: tuple[int, int], kind: str = 'JPEG', orientation: int | None = None, mode: str = 'RGB', **options
) -> bytes:
    """A smooth image of all colours, ``(height, width)``."""
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    if orientation is not None:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(cv2.resize(colours, size[::-1])).convert(mode).save(file, kind, **options)
    return file.getvalue()


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    orientation=st.none() | st.integers(0, 9),
    mode=st.sampled_from(['RGB', 'L', 'CMYK']),
    options=st.sampled_from([{}, {'progressive': True}, {'subsampling': 0}, {'comment': b'x' * 99}]),
)
def test_the_header_gives_the_decoded_size(size, orientation, mode, options):
    content = encoded(size, orientation=orientation, mode=mode, **options)
    height, width = jpeg_size(content)
    for reduction in REDUCTIONS:
        assert decode(content, reduction).shape == (-(-height // reduction), -(-width // reduction), 3)


@pytest.mark.parametrize('orientation', [None, *range(1, 9)])
def test_a_reduced_image_is_the_full_one_shrunk(orientation):
    content = encoded((320, 480), orientation=orientation, quality=95)
    for reduction in (2, 4, 8):
        reduced = decode(content, reduction)
        shrunk = cv2.resize(decode(content), reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(int) - shrunk).max() <= 8  # levels of 255; a turned one would differ by 200


@given(content=st.binary(max_size=40), cut=st.integers(0, 700))
def test_garbage_has_no_size(content, cut):
    assert jpeg_size(content) is None
    assert jpeg_size(b'\xff\xd8' + content) is None  # neither a size nor a scan fits into so little
    assert jpeg_size(encoded((16, 40))[:cut]) in (None, (16, 40))


def test_other_formats_and_broken_files():
    for kind in ('PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'JPEG2000', 'AVIF'):
        content = encoded((20, 30), kind)
        assert image_kind(content) == kind
        assert jpeg_size(content) is None
        assert decode(content).shape == (20, 30, 3)
    assert decode(encoded((20, 30), 'AVIF', orientation=6)).shape == (30, 20, 3)  # which OpenCV ignores
    content = encoded((320, 480))
    for broken in (b'', b'<html>not found</html>', content[:100], content[: len(content) // 2]):
        for reduction in REDUCTIONS:
            with pytest.raises(ValueError, match='cannot be decoded'):
                decode(broken, reduction)


def test_a_kind_without_a_decoder_is_named_with_the_command(tmp_path, monkeypatch):
    avif = encoded((20, 30), 'AVIF')
    monkeypatch.setattr(image_files.features, 'check', lambda name: False)
    camera = io.BytesIO()
    Image.new('L', (16, 12)).save(camera, 'TIFF', tiffinfo={254: 1})  # begins with a thumbnail
    others = {
        avif: 'AVIF image that cannot be decoded here. Run: pip install -U pillow',
        b'\0\0\0\x18ftypheic\0\0\0\0mif1heic': 'HEIF image that cannot be decoded here. Run: pip install pillow-heif',
        b'\0\0\0\x18ftypmif1\0\0\0\0miafheic': 'HEIF image that cannot be decoded here. Run: pip install pillow-heif',
        camera.getvalue(): 'RAW image that cannot be decoded here. Save it as JPEG',
        encoded((20, 30), 'PPM'): 'PPM image that cannot be decoded here. Save it as JPEG',
        encoded((20, 30), 'ICO'): 'ICO image that cannot be decoded here. Save it as JPEG',
    }
    for content, problem in others.items():
        (tmp_path / 'a').write_bytes(content)
        assert photo_problem(tmp_path / 'a') == fingerprint(tmp_path / 'a').problem == problem


@pytest.mark.parametrize('size', [(9000, 12000), (12240, 16320)])
def test_photos_of_phones_are_reduced(tmp_path, size):
    Image.new('L', size[::-1]).save(tmp_path / 'a.jpg')
    content = (tmp_path / 'a.jpg').read_bytes()
    assert file_problem(tmp_path / 'a.jpg') is fingerprint(tmp_path / 'a.jpg').problem is None
    assert decode_photo(content)[0].shape == (size[0] // 2, size[1] // 2, 3)
    assert decode_photo(content, 256)[0].shape == (size[0] // 8, size[1] // 8, 3)


@given(st.floats(0.01, 1000))
def test_no_reduction_is_greater_than_the_shrinking(shrinking):
    reduction = greatest_reduction(shrinking)
    assert reduction <= max(shrinking, 1)
    assert reduction == 8 or 2 * reduction > shrinking
