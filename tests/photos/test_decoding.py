"""Images from bytes: the size in a JPEG's header is that of the decoded image, at each reduction."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from custom_modules.photos.decoding import REDUCTIONS, decode, greatest_reduction, jpeg_size


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


def exif_segment(orientation: int) -> bytes:
    entries = b'\0\1' + b'\x01\x12\0\3\0\0\0\1' + orientation.to_bytes(2) + b'\0\0' + b'\0\0\0\0'
    data = b'Exif\0\0MM\0*\0\0\0\x08' + entries
    return b'\xff\xe1' + (len(data) + 2).to_bytes(2) + data


def other_segment(size: int) -> bytes:
    return b'\xff\xe1' + (size + 2).to_bytes(2) + (b'http://ns.adobe.com/xap/1.0/\0' + b'x' * size)[:size]


@given(st.lists(st.builds(exif_segment, st.integers(0, 9)) | st.builds(other_segment, st.integers(0, 99))))
def test_several_exif_segments_are_read_as_opencv_reads_them(segments):
    content = encoded((16, 40))
    content = content[:2] + b''.join(segments) + content[2:]
    assert jpeg_size(content) == decode(content).shape[:2]


@given(content=st.binary(max_size=40), cut=st.integers(0, 700))
def test_garbage_has_no_size(content, cut):
    assert jpeg_size(content) is None
    assert jpeg_size(b'\xff\xd8' + content) is None  # neither a size nor a scan fits into so little
    assert jpeg_size(encoded((16, 40))[:cut]) in (None, (16, 40))


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_other_formats_are_decoded_in_full(kind):
    content = encoded((20, 30), kind)
    assert jpeg_size(content) is None
    assert decode(content).shape == (20, 30, 3)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_broken_images_are_broken_at_each_reduction(reduction):
    content = encoded((320, 480))
    for broken in (b'', b'<html>not found</html>', content[:100], content[: len(content) // 2]):
        with pytest.raises(ValueError, match='cannot be decoded'):
            decode(broken, reduction)


@given(st.floats(0.01, 1000))
def test_no_reduction_is_greater_than_the_shrinking(shrinking):
    reduction = greatest_reduction(shrinking)
    assert reduction <= max(shrinking, 1)
    assert reduction == 8 or 2 * reduction > shrinking
