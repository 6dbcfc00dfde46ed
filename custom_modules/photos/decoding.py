"""From the bytes of a photo to pixels, at a reduced scale or not to its bottom where that is enough. No files.

A JPEG stores the frequencies of blocks of 8 x 8 pixels. Without the higher ones it decodes to 1/2, 1/4 or 1/8 of its
width and height for a fraction of the time, each pixel an average. Most store the blocks row by row, as many rows as
the header says: with a lower height there, decoding ends early. Other formats would be decoded in full first, and then
shrunk: no gain, so this is for JPEGs only.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
"""OpenCV's flag for each divisor of height and width, the greatest first; all turn a photo upright by its EXIF."""

_HEADER = struct.Struct('>HH')  # marker and length of a segment
_SIZE = struct.Struct('>HH')  # height and width
_EXIF, _SCAN, _RESTARTS = 0xFFE1, 0xFFDA, 0xFFDD
_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}  # these three are tables
_BASELINE, _END = b'\xff\xc0', b'\xff\xd9'
_PICTURES = b'MPF\0'  # begins a list of pictures that follow the first one
# A JPEG, three pixels wide and two high, whose upper left one is white, the others black.
_CORNER = cv2.imencode('.jpg', np.array([[255, 0, 0], [0, 0, 0]], np.uint8))[1].tobytes()


class JpegHeader(NamedTuple):
    """What the header of a JPEG tells.

    Attributes:
        size: Height and width when decoded, upright.
        height_at: Offset of the height in the bytes, if a lower one there ends the decoding early: one scan from top
            to bottom without restarts, nothing behind it, and not to be turned; else None.
    """

    size: tuple[int, int]
    height_at: int | None


def decode(content: bytes | bytearray, reduction: int = 1) -> np.ndarray:
    """Decodes a photo to (H, W, 3) uint8, BGR, upright.

    Args:
        content: The bytes of its file.
        reduction: Divisor of height and width, which are rounded up: 1, 2, 4 or 8; other than 1 for JPEGs only.

    Raises:
        ValueError: OpenCV cannot decode it.
    """
    try:
        img = cv2.imdecode(np.frombuffer(content, np.uint8), REDUCTIONS[reduction]) if content else None
    except cv2.error as error:  # e.g. more pixels than OpenCV takes
        raise ValueError(f'it cannot be decoded: {error.err or error}') from error
    if img is None:
        raise ValueError('it cannot be decoded')
    return img


def greatest_reduction(shrinking: float) -> int:
    """The greatest reduction for a photo whose height and width will be divided by ``shrinking``, or more, anyway."""
    return next((reduction for reduction in REDUCTIONS if reduction <= shrinking), 1)  # they descend


def decode_upper_rows(content: bytes, header: JpegHeader, rows: int, reduction: int) -> np.ndarray:
    """Decodes the upper part of a JPEG to (H, W, 3) uint8, BGR: the pixels that :func:`decode` has there.

    Args:
        content: The bytes of its file.
        header: Of it.
        rows: How much of the photo's height is wanted, in its pixels. More can come.
        reduction: As for :func:`decode`.

    Raises:
        ValueError: OpenCV cannot decode it.
    """
    rows += 2 * reduction  # colours, often stored for two rows at once, blend into the next ones
    if header.height_at is None or rows >= header.size[0]:
        return decode(content, reduction)
    cut = bytearray(content)
    cut[header.height_at : header.height_at + 2] = rows.to_bytes(2)
    # Where libjpeg finds the end's marker, it says on stderr what it passed over. It reads up to 8 bytes ahead.
    cut[-len(_END) :] = bytes(8)
    try:
        return decode(cut, reduction)
    except ValueError:  # the data end too early: at the end's marker, libjpeg fills in what lacks
        return decode(content, reduction)


def read_jpeg_header(content: bytes) -> JpegHeader | None:
    """The header of a JPEG; None for whatever has no clear one."""
    if content[:2] != b'\xff\xd8':
        return None
    size, frame, exif, at = None, 0, b'', 2
    one_run = content.endswith(_END)
    try:
        while (segment := _HEADER.unpack_from(content, at))[0] != _SCAN:
            marker, length = segment
            if marker in _FRAMES:
                size, frame = _SIZE.unpack_from(content, at + 5), at
            elif marker == _EXIF:
                exif += content[at : at + 2 + length]
            elif marker < 0xFF00:
                return None
            elif marker == _RESTARTS or content[at + 4 : at + 8] == _PICTURES:
                one_run = False
            at += 2 + length
    except struct.error:
        return None
    if size is None or 0 in size:
        return None
    upright = True
    if exif:  # how OpenCV reads the orientation shows on a few pixels with the same EXIF data
        corner = decode(_CORNER[:2] + exif + _CORNER[2:])
        upright = corner.shape[0] == 2 and corner[0, 0, 0] > 127
        if corner.shape[0] == 3:
            size = size[::-1]
    all_components = content[at + 4 : at + 5] == content[frame + 9 : frame + 10]  # of the frame are in the first scan
    top_down = content[frame : frame + 2] == _BASELINE and all_components and one_run and upright
    return JpegHeader(size, frame + 5 if top_down else None)


def is_readable(path: str) -> bool:
    """Whether OpenCV, which the pipelines load photos with, can decode a file."""
    try:
        decode(Path(path).read_bytes())
    except (OSError, ValueError):
        return False
    return True
