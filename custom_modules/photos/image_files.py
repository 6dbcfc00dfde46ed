"""Recognises image files by their first bytes, and checks them with Pillow before they are decoded (decoding.py)."""

import os
import re
from contextlib import suppress
from importlib import import_module
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile

KINDS = {  # by Pillow's name of the format: the first bytes, and the suffixes of such files
    'JPEG': (rb'\xff\xd8\xff', ('.jpg', '.jpeg', '.jpe', '.jfif')),
    'PNG': (rb'\x89PNG\r\n\x1a\n', ('.png',)),
    'BMP': (rb'BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0', ('.bmp',)),
    'WEBP': (rb'RIFF.{4}WEBP', ('.webp',)),
    # Of a camera: most are TIFFs that begin with a thumbnail.
    'RAW': (
        rb'.{4}ftypcrx |FUJIFILMCCD-RAW|II[*]\0(.{4}CR|.{6}\xfe\0\x04\0\x01\0\0\0\x01)'
        rb'|MM\0[*].{6}\0\xfe\0\x04\0\0\0\x01\0\0\0\x01',
        ('.cr3', '.cr2', '.raf', '.nef', '.arw', '.dng'),
    ),
    'TIFF': (rb'II[*+]\0|MM\0[*+]', ('.tif', '.tiff')),
    'GIF': (rb'GIF8[79]a', ('.gif',)),
    'JPEG2000': (rb'\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51', ('.jp2', '.j2k', '.jpx')),
    'AVIF': (rb'.{4}ftyp(avi[fs]|mi[fa][1f].{4}(.{4})*?avi[fs])', ('.avif',)),
    'HEIF': (rb'.{4}ftyp(hei[cmsx]|hev[cmsx]|m[is]f1)', ('.heic', '.heif', '.hif')),
    'JXL': (rb'\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n', ('.jxl',)),
    'PPM': (rb'P[1-6]\s+[#\d]', ('.ppm', '.pgm', '.pbm')),
    'ICO': (rb'\0\0[\1\2]\0[^\0]\0', ('.ico', '.cur')),
    'PSD': (rb'8BPS\0', ('.psd',)),
}
IMAGE_SUFFIXES = tuple(suffix for _, suffixes in KINDS.values() for suffix in suffixes)
HEAD = 64  # bytes that show the kind
BY_OPENCV = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')
# Some builds of OpenCV lack these, and it ignores the rotation in an AVIF.
BY_PILLOW = {'JPEG2000': 'pip install -U pillow', 'AVIF': 'pip install -U pillow', 'HEIF': 'pip install pillow-heif'}
MAX_PIXELS = 89_478_485  # Pillow's limit, from which on it speaks of a decompression bomb
MAX_JPEG_PIXELS = 4 * MAX_PIXELS  # in the file: large JPEGs are decoded at half their size or less
BROKEN = 'corrupt image, or not an image'  # what decoding alone finds
TOO_LARGE = f'too large, more than {MAX_PIXELS // 10**6} million pixels. Resize it, or save it as JPEG'
# Its short edge made 256 pixels long, as pipelines do, a picture of 1 x 60000 would fill 12 GB.
MAX_RATIO = 1000  # long edge / short edge


class Unreadable(NamedTuple):
    """A photo without prediction: its ``path`` and the ``problem`` with it."""

    path: str
    problem: str


class NoDecoder(ValueError):
    """An image of a kind that cannot be decoded here; the message says how it can be."""


def image_kind(content: bytes) -> str | None:
    """The kind of image, of :data:`KINDS`, that begins with these bytes; None if it is none."""
    head = content[:HEAD]
    return next((kind for kind, (start, _) in KINDS.items() if re.match(start, head, re.DOTALL)), None)


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image by its content, or ought to be one by its suffix; also if it cannot be opened."""
    if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES or not os.path.isfile(path):
        return True
    try:
        with open(path, 'rb') as file:
            return image_kind(file.read(HEAD)) is not None
    except OSError:
        return True


def decoder_problem(kind: str) -> str | None:
    """Why this kind of image cannot be decoded here, and what to do; None if it can."""
    if kind in BY_OPENCV:
        return None
    if kind in ('JPEG2000', 'AVIF') and features.check('avif' if kind == 'AVIF' else 'jpg_2000'):
        return None
    if kind == 'HEIF':
        with suppress(ImportError):
            import_module('pillow_heif').register_heif_opener()
            return None
    fix = f'Run: {BY_PILLOW[kind]}' if kind in BY_PILLOW else 'Save it as JPEG'
    return f'{kind} image that cannot be decoded here. {fix}'


def file_problem(path: str) -> str | None:
    """Why a file cannot be decoded: missing, empty, no image, too large or too narrow; None if its header is fine."""
    if not os.path.isfile(path):  # a named pipe would block
        return 'no file' if os.path.exists(path) else 'broken link' if os.path.islink(path) else 'no such file'
    try:
        if not os.path.getsize(path):
            return 'empty file'
        with open(path, 'rb') as file:
            width, height = _open(file).size
    except Exception as error:  # on garbage, decoders raise almost anything
        known = isinstance(error, Image.DecompressionBombError | NoDecoder) or getattr(error, 'strerror', None)
        return why_unreadable(error) if known else BROKEN
    narrow = max(width, height) > MAX_RATIO * min(width, height)
    return f'too narrow, {width} x {height} pixels' if narrow else None


def open_photo(file: BinaryIO) -> Image.Image:
    """Opens an image that training can decode and that fits into memory, without decoding it.

    Raises:
        Exception: Of any kind, for any other file; :func:`why_unreadable` says it in words.
    """
    image = _open(file)
    if image.mode in ('I', 'F'):
        raise ValueError('32 bits a channel, which training cannot read')
    if image.format == 'PNG':  # OpenCV insists on its checksums, Pillow does not while decoding
        image.verify()
        image = _open(file)
    return image


def _open(file: BinaryIO) -> Image.Image:
    file.seek(0)
    kind = image_kind(file.read(HEAD))
    if kind is None:
        raise UnidentifiedImageError
    if problem := decoder_problem(kind):
        raise NoDecoder(problem)
    file.seek(0)
    # Image.open would refuse a JPEG of 200 million pixels.
    image = JpegImageFile(file) if kind == 'JPEG' else Image.open(file, formats=(kind,))
    width, height = image.size
    if width * height > (MAX_JPEG_PIXELS if kind == 'JPEG' else MAX_PIXELS):
        raise Image.DecompressionBombError(f'{width} x {height} pixels')
    return image


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1, upright, where there is none that means something."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF does not make a photo unreadable
        return 1
    return value if value in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """Returns a picture turned as its EXIF orientation says, its grey levels in 8 bits."""
    with suppress(Exception):  # of broken EXIF; broken pixels raise again below
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # which Pillow's own conversion would make white
        image = image.point(lambda value: value / 256).convert('L')
    return image


def why_unreadable(error: Exception) -> str:
    """One line on why an image could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return 'no picture, or of a kind that training cannot read'
    if isinstance(error, Image.DecompressionBombError):
        return TOO_LARGE
    if isinstance(error, NoDecoder):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f'cannot be read: {error.strerror}'
    return f'broken picture: {" ".join(str(error).split()) or type(error).__name__}'
