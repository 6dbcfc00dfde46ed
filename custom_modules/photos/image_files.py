"""Checks image files with Pillow before OpenCV decodes them (decoding.py): format, size and orientation."""

import os
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # Pillow's limit, from which on it speaks of a decompression bomb
# What the loader of training and prediction (OpenCV) reads too, whatever the file is called.
FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')
BROKEN = 'broken picture, or none that can be read'  # what decoding alone finds
TOO_LARGE = f'too large, more than {MAX_PIXELS // 10**6} million pixels'
# Its short edge made 256 pixels long, as pipelines do, a picture of 1 x 60000 would fill 12 GB.
MAX_RATIO = 1000  # long edge / short edge


class Unreadable(NamedTuple):
    """A photo without prediction: its ``path`` and the ``problem`` with it."""

    path: str
    problem: str


def file_problem(path: str) -> str | None:
    """Why a file must not be decoded: missing, empty, too large or too narrow; None if it may."""
    if not os.path.isfile(path):  # a named pipe would block
        return 'no such file' if not os.path.lexists(path) else 'no file'
    try:
        if not os.path.getsize(path):
            return 'empty file'
        with Image.open(path) as image:
            width, height = image.size
    except (
        Exception
    ) as error:  # fed with garbage, decoders raise almost anything; decoding says whether it is readable
        known = isinstance(error, Image.DecompressionBombError) or getattr(error, 'strerror', None)
        return why_unreadable(error) if known else None
    if width * height > MAX_PIXELS:
        return TOO_LARGE
    narrow = max(width, height) > MAX_RATIO * min(width, height)
    return f'too narrow, {width} x {height} pixels' if narrow else None


def open_photo(file: BinaryIO) -> Image.Image:
    """Opens an image that training can decode and that fits into memory, without decoding it.

    Raises:
        Exception: Of any kind, for any other file; :func:`why_unreadable` says it in words.
    """
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError(f'{width} x {height} pixels')
    if image.mode in ('I', 'F'):
        raise ValueError('32 bits a channel, which training cannot read')
    if image.format == 'PNG':  # OpenCV insists on its checksums, Pillow does not while decoding
        image.verify()
        image = Image.open(file, formats=FORMATS)
    return image


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1, upright, where there is none that means something."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF does not make a photo unreadable
        return 1
    return value if value in range(1, 9) else 1


def upright_grey(image: Image.Image) -> Image.Image:
    """Returns the brightness of a picture, 8 bits, turned as its EXIF orientation says."""
    with suppress(Exception):  # of broken EXIF; broken pixels raise again below
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # which Pillow's own conversion would make white
        image = image.point(lambda value: value / 256)
    return image.convert('L')


def why_unreadable(error: Exception) -> str:
    """One line on why an image could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return 'no picture, or of a kind that training cannot read'
    if isinstance(error, Image.DecompressionBombError):
        return TOO_LARGE
    if isinstance(error, OSError) and error.strerror:
        return f'cannot be read: {error.strerror}'
    return f'broken picture: {" ".join(str(error).split()) or type(error).__name__}'
