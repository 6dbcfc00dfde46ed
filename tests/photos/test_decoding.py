"""Photos from bytes: what a JPEG's header promises is what OpenCV decodes, at each reduction."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from custom_modules.photos.decoding import REDUCTIONS, decode, greatest_reduction, jpeg_size


def blurred(height: int, width: int) -> Image.Image:
    """A smooth picture of all colours."""
    rng = np.random.default_rng(0)
    return Image.fromarray(cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (width, height)))


def jpeg(picture: Image.Image, orientation: int | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    if orientation is not None:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = orientation
    picture.save(file, 'JPEG', **options)
    return file.getvalue()


@settings(deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    orientation=st.none() | st.integers(0, 9),
    mode=st.sampled_from(['RGB', 'L', 'CMYK']),
    options=st.sampled_from([{}, {'progressive': True}, {'subsampling': 0}, {'comment': b'x' * 99}]),
)
def test_the_header_gives_the_decoded_size(height, width, orientation, mode, options):
    content = jpeg(blurred(height, width).convert(mode), orientation, **options)
    size = jpeg_size(content)
    assert size == decode(content).shape[:2]
    for reduction in REDUCTIONS:
        assert decode(content, reduction).shape == (-(-size[0] // reduction), -(-size[1] // reduction), 3)


@pytest.mark.parametrize('orientation', [None, *range(1, 9)])
@pytest.mark.parametrize('reduction', [2, 4, 8])
def test_a_reduced_photo_is_the_whole_one_shrunk(orientation, reduction):
    content = jpeg(blurred(320, 480), orientation, quality=95)
    whole, reduced = decode(content), decode(content, reduction)
    shrunk = cv2.resize(whole, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - shrunk).max() <= 8  # levels of 255; a turned one would differ by 200


def big_endian_exif(orientation: int) -> bytes:
    entries = b'\0\1' + b'\x01\x12\0\3\0\0\0\1' + orientation.to_bytes(2) + b'\0\0' + b'\0\0\0\0'
    data = b'Exif\0\0MM\0*\0\0\0\x08' + entries
    return b'\xff\xe1' + (len(data) + 2).to_bytes(2) + data


def other_segment(size: int) -> bytes:
    return b'\xff\xe1' + (size + 2).to_bytes(2) + (b'http://ns.adobe.com/xap/1.0/\0' + b'x' * size)[:size]


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.builds(big_endian_exif, st.integers(0, 9)), st.builds(other_segment, st.integers(0, 99))))
)
def test_several_exif_segments_are_read_as_opencv_reads_them(segments):
    content = jpeg(blurred(16, 40))
    content = content[:2] + b''.join(segments) + content[2:]
    assert jpeg_size(content) == decode(content).shape[:2]


@settings(deadline=None)
@given(content=st.binary(max_size=40), whole=st.booleans(), cut=st.integers(0, 700))
def test_what_is_no_jpeg_has_no_size(content, whole, cut):
    assert jpeg_size(content) is None
    assert jpeg_size(b'\xff\xd8' + content) is None  # neither a size nor a scan fits into so little
    assert jpeg_size(jpeg(blurred(16, 40))[:cut]) in (None, (16, 40))


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_other_formats_are_decoded_in_full(kind):
    file = io.BytesIO()
    blurred(20, 30).save(file, kind)
    assert jpeg_size(file.getvalue()) is None
    assert decode(file.getvalue()).shape == (20, 30, 3)


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_what_is_broken_is_so_at_each_reduction(reduction):
    content = jpeg(blurred(320, 480))
    for broken in (b'', b'<html>not found</html>', content[:100], content[: len(content) // 2]):
        with pytest.raises(ValueError, match='cannot be decoded'):
            decode(broken, reduction)


@settings(deadline=None)
@given(st.floats(0.01, 1000))
def test_never_more_is_taken_away_than_shrinking_would(shrinking):
    reduction = greatest_reduction(shrinking)
    assert reduction <= max(shrinking, 1)
    assert reduction == 8 or 2 * reduction > shrinking
