"""From the bytes of a photo to pixels, at a reduced scale where that is enough. No files, no transforms.

A JPEG stores the frequencies of blocks of 8 x 8 pixels. Without the higher ones it decodes to 1/2, 1/4 or 1/8 of its
width and height for a fraction of the time, each pixel an average. Other formats would be decoded in full first, and
then shrunk: no gain, so only JPEGs are reduced.
"""

import struct

import cv2
import numpy as np

# What cannot be decoded is told by who wants it; OpenCV need not say so on stderr too.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

REDUCTIONS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
"""OpenCV's flag for each divisor of height and width, the greatest first; all turn a photo upright by its EXIF."""

_HEADER = struct.Struct('>HH')  # marker and length of a segment
_SIZE = struct.Struct('>HH')  # height and width
_EXIF, _SCAN = 0xFFE1, 0xFFDA
_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}  # these three are tables
_WIDE = cv2.imencode('.jpg', np.zeros((1, 2), np.uint8))[1].tobytes()  # a JPEG, two pixels wide and one high


def decode(content: bytes, reduction: int = 1) -> np.ndarray:
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


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG when decoded, upright, from its header; None for whatever has no clear one."""
    if content[:2] != b'\xff\xd8':
        return None
    size, exif, at = None, b'', 2
    try:
        while (segment := _HEADER.unpack_from(content, at))[0] != _SCAN:
            marker, length = segment
            if marker in _FRAMES:
                size = _SIZE.unpack_from(content, at + 5)
            elif marker == _EXIF:
                exif += content[at : at + 2 + length]
            elif marker < 0xFF00:
                return None
            at += 2 + length
    except struct.error:
        return None
    if size is None or 0 in size:
        return None
    # How OpenCV reads the orientation shows on two pixels with the same EXIF data.
    if exif and decode(_WIDE[:2] + exif + _WIDE[2:]).shape[0] == 2:
        return size[1], size[0]
    return size[0], size[1]
