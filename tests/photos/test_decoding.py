"""Photos from bytes: what a JPEG's header promises is what OpenCV decodes, at each reduction."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from custom_modules.photos.decoding import (
    REDUCTIONS,
    decode,
    decode_upper_rows,
    greatest_reduction,
    read_jpeg_header,
)


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
def test_the_header_tells_the_size_that_is_decoded(height, width, orientation, mode, options):
    content = jpeg(blurred(height, width).convert(mode), orientation, **options)
    size = read_jpeg_header(content).size
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


@settings(deadline=None, max_examples=200)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 70)),
    sampling=st.sampled_from([0x411111, 0x221111, 0x211111, 0x121111, 0x111111]),
    quality=st.integers(1, 100),
    rows=st.integers(1, 150),
    reduction=st.sampled_from(list(REDUCTIONS)),
    seed=st.integers(0, 2**32 - 1),
    grey=st.booleans(),
)
def test_the_upper_rows_of_a_cut_jpeg_are_the_same(size, sampling, quality, rows, reduction, seed, grey):
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, cv2.IMWRITE_JPEG_QUALITY, quality]
    content = cv2.imencode('.jpg', picture[..., 0] if grey else picture, options)[1].tobytes()
    whole, upper = decode(content, reduction), decode_upper_rows(content, read_jpeg_header(content), rows, reduction)
    kept = -(-rows // reduction)
    assert np.array_equal(upper[:kept], whole[:kept])
    assert upper.shape[0] == -(-min(size[0], rows + 2 * reduction) // reduction)


@pytest.mark.parametrize('orientation', [None, *range(10)])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'restart_marker_rows': 1}], ids=str)
@pytest.mark.parametrize('ending', [b'', b'more'], ids=['', 'more after its end'])
def test_only_what_ends_early_in_silence_is_cut(orientation, options, ending, capfd):
    content = jpeg(blurred(320, 480), orientation, **options) + ending
    whole, upper = decode(content), decode_upper_rows(content, read_jpeg_header(content), 100, 1)
    assert (len(upper) < len(whole)) == (orientation in (None, 0, 1, 9) and not options and not ending)
    assert np.array_equal(upper[:100], whole[:100])
    assert capfd.readouterr() == ('', '')


def test_a_picture_that_others_follow_is_decoded_whole(capfd):
    file = io.BytesIO()
    blurred(320, 480).save(file, 'MPO', save_all=True, append_images=[blurred(32, 48)])
    upper = decode_upper_rows(file.getvalue(), read_jpeg_header(file.getvalue()), 100, 1)
    assert np.array_equal(upper, decode(file.getvalue()))
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('rows', [1, 100, 200, 300])
def test_what_lacks_at_the_end_is_filled_in_as_ever(rows):
    content = jpeg(blurred(320, 480), quality=95)
    ended_early = content[: len(content) // 2] + content[-2:]
    upper = decode_upper_rows(ended_early, read_jpeg_header(ended_early), rows, 1)
    assert np.array_equal(upper[:rows], decode(ended_early)[:rows])


def test_a_jpeg_of_several_scans_is_not_cut():
    content = jpeg(blurred(320, 480))
    scan = content.rindex(b'\xff\xda')
    of_one_component = content[: scan + 4] + b'\1' + content[scan + 5 :]
    assert read_jpeg_header(content).height_at is not None
    assert read_jpeg_header(of_one_component).height_at is None


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
    assert read_jpeg_header(content).size == decode(content).shape[:2]


@settings(deadline=None)
@given(content=st.binary(max_size=40), whole=st.booleans(), cut=st.integers(0, 700))
def test_what_is_no_jpeg_has_no_size(content, whole, cut):
    assert read_jpeg_header(content) is None
    assert read_jpeg_header(b'\xff\xd8' + content) is None  # neither a size nor a scan fits into so little
    assert read_jpeg_header(jpeg(blurred(16, 40))[:cut]) in (None, ((16, 40), None))


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_other_formats_are_decoded_in_full(kind):
    file = io.BytesIO()
    blurred(20, 30).save(file, kind)
    assert read_jpeg_header(file.getvalue()) is None
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
