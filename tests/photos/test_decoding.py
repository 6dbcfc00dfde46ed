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


@given(content=st.binary(max_size=40), cut=st.integers(0, 700))
def test_garbage_has_no_size(content, cut):
    assert jpeg_size(content) is None
    assert jpeg_size(b'\xff\xd8' + content) is None  # neither a size nor a scan fits into so little
    assert jpeg_size(encoded((16, 40))[:cut]) in (None, (16, 40))


def test_other_formats_and_broken_files():
    for kind in ('PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'):
        content = encoded((20, 30), kind)
        assert jpeg_size(content) is None
        assert decode(content).shape == (20, 30, 3)
    content = encoded((320, 480))
    for broken in (b'', b'<html>not found</html>', content[:100], content[: len(content) // 2]):
        for reduction in REDUCTIONS:
            with pytest.raises(ValueError, match='cannot be decoded'):
                decode(broken, reduction)


@given(st.floats(0.01, 1000))
def test_no_reduction_is_greater_than_the_shrinking(shrinking):
    reduction = greatest_reduction(shrinking)
    assert reduction <= max(shrinking, 1)
    assert reduction == 8 or 2 * reduction > shrinking
