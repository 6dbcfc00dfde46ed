"""Near-duplicates: photos are fingerprinted by content and by look, and grouped. Nothing is split or removed here."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from custom_modules.photos.parallel import map_photos
from custom_modules.errors import InputError
from custom_modules.progress import StepProgress

if TYPE_CHECKING:
    from PIL.Image import Image

PHASH_BITS, DHASH_BITS = 64, 256
# Two photos are near-duplicates when both distances are within these. Measured on the 2278 flower photos: 456 of them,
# each copied in eight ways (half size, JPEG quality 50, PNG, brightness +-5 %, cropped by 1 or 2 % on every edge or by
# 2 % at top and left), make 3648 copies, of which all but two are found; of the 2.6 million pairs of photos, 13 are
# within, and all 13 are true, looked at. Alone, pHash would make 1003 pairs of them, and dHash 17.
MAX_PHASH_DISTANCE, MAX_DHASH_DISTANCE = 16, 56
MAX_PIXELS = 89_478_485  # Pillow's limit, from which on it speaks of a decompression bomb
# What the loader of training and prediction (OpenCV) reads too, whatever the file is called.
FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF')

IMPORTS = ('imagehash', 'scipy.fftpack')  # what :func:`fingerprint` imports late

_REDUCED_SIDE = 64  # pixels; JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, no smaller than this
_ORIENTATION = 0x0112  # the EXIF tag
_ROWS, _COLUMNS = 64, 4096  # pairs are compared in blocks that stay in the processor's cache


@dataclass(frozen=True)
class Fingerprint:
    """What a photo is by content and by look.

    Args:
        sha256: Of the file's bytes, in hex; None when the file cannot be read at all.
        phash: Perceptual hash of the upright grey picture, 320 bits: a pHash of 64 above a dHash of 256; None when no
            picture can be decoded.
        problem: Why there is no perceptual hash; None when there is one.
    """

    sha256: str | None
    phash: int | None
    problem: str | None = None


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Reads one photo: as training sees it, turned by its EXIF orientation, without alpha, the first frame of several.

    A copy whose orientation was dropped without turning the pixels looks different, here as in training.
    Whatever is wrong with the file becomes :attr:`Fingerprint.problem`; nothing is raised.
    """
    sha256 = None
    try:
        if not os.path.isfile(path):
            return Fingerprint(None, None, 'no file')
        with open(path, 'rb') as file:
            sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
            if not file.tell():
                return Fingerprint(sha256, None, 'empty file')
            return Fingerprint(sha256, _perceptual_hash(open_photo(file)))
    except ImportError:  # imagehash imports late
        raise
    except Exception as error:  # fed with garbage, decoders raise almost anything
        return Fingerprint(sha256, None, why_unreadable(error))


def fingerprint_all(
    paths: Sequence[Path], workers: int | None = None, progress: StepProgress | None = None
) -> list[Fingerprint]:
    """Reads photos on all cores.

    Args:
        paths: The photos.
        workers: Number of processes; None for one per core, 8 at most, and none but this one for few photos.
        progress: Called now and then with the numbers of photos done and in all.

    Returns:
        One fingerprint a path, in the order of the paths.

    Raises:
        InputError: imagehash is not installed, or a process was killed.
    """
    require_imagehash()
    return map_photos(fingerprint, paths, IMPORTS, workers, progress)


def require_imagehash() -> None:
    """Checks that imagehash can be imported.

    Raises:
        InputError: It is not installed.
    """
    try:
        import imagehash  # noqa: F401
    except ImportError as error:
        raise InputError(f'comparing photos needs imagehash ({error}): pip install "ImageHash>=4.3,<5"') from None


def group_near_duplicates(hashes: Sequence[int | None]) -> list[list[int]]:
    """Groups perceptual hashes that are near each other, directly or through others between them.

    Every pair is compared, so none is missed; 100 000 hashes take some seconds and some 50 MB.

    Args:
        hashes: :attr:`Fingerprint.phash` of each photo; those without one are in no group.

    Returns:
        Groups of two or more positions in ``hashes``, each sorted, ordered by their first.
    """
    import numpy as np

    members: dict[int, list[int]] = {}
    for position, value in enumerate(hashes):
        if value is not None:
            members.setdefault(value, []).append(position)
    size = (PHASH_BITS + DHASH_BITS) // 8
    words = np.frombuffer(b''.join(value.to_bytes(size, 'big') for value in members), '>u8').reshape(-1, size // 8)
    words = words.astype(np.uint64)
    phash, dhash = np.ascontiguousarray(words[:, 0]), words[:, 1:]
    groups = np.arange(len(words))  # the first of the group that each is in
    for row in range(0, len(words), _ROWS):
        rows = slice(row, row + _ROWS)
        for column in range(row, len(words), _COLUMNS):
            columns = slice(column, column + _COLUMNS)
            near = np.bitwise_count(phash[rows, None] ^ phash[columns]) <= MAX_PHASH_DISTANCE
            if not near.any() or ((groups[rows] == groups[row]).all() and (groups[columns] == groups[row]).all()):
                continue
            first, second = np.divmod(np.flatnonzero(near), near.shape[1])
            first, second = first + row, second + column
            new = groups[first] != groups[second]
            first, second = first[new], second[new]
            near = np.bitwise_count(dhash[first] ^ dhash[second]).sum(1) <= MAX_DHASH_DISTANCE
            for a, b in zip(first[near].tolist(), second[near].tolist(), strict=True):
                low, high = sorted((groups[a], groups[b]))
                if low != high:
                    groups[groups == high] = low
    together: dict[int, list[int]] = {}
    for group, positions in zip(groups.tolist(), members.values(), strict=True):
        together.setdefault(group, []).extend(positions)
    return sorted(sorted(group) for group in together.values() if len(group) > 1)


def open_photo(file: BinaryIO) -> 'Image':
    """Opens a picture that training can decode and that fits into memory; it is not decoded yet.

    Raises:
        Exception: Of any kind, for any other file; :func:`why_unreadable` says it in words.
    """
    from PIL import Image

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


def _perceptual_hash(image: 'Image') -> int:
    """Returns pHash (Zauner 2010, section 3.2.1) and dHash (Krawetz 2013), as imagehash has them, in one number."""
    import imagehash

    image.draft('L', (_REDUCED_SIDE, _REDUCED_SIDE))  # JPEG: decode the brightness alone, and reduced
    turn = orientation(image)
    grey = upright(eight_bits(image).convert('L'), turn)
    value = 0
    for found in (imagehash.phash(grey), imagehash.dhash(grey, hash_size=16)):
        bits = found.hash.ravel()
        value = value << bits.size | int(''.join('01'[bit] for bit in bits.tolist()), 2)
    return value


def orientation(image: 'Image') -> int:
    """Returns the EXIF orientation, 1 to 8; 1, upright, where there is none that means something."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF does not make a photo unreadable
        return 1
    return value if value in range(2, 9) else 1


def eight_bits(image: 'Image') -> 'Image':
    """Returns a picture of 16 bits in its upper 8, which Pillow's own conversion would make white; others as is."""
    return image.point(lambda value: value / 256) if image.mode.startswith('I;16') else image


def upright(image: 'Image', turn: int) -> 'Image':
    """Returns a picture turned as an EXIF orientation says."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    transpose = turns.get(turn)
    return image if transpose is None else image.transpose(transpose)


def why_unreadable(error: Exception) -> str:
    """Says in a line why a photo could not be read."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return 'no picture, or of a kind that training cannot read'
    if isinstance(error, Image.DecompressionBombError):
        return f'too large, more than {MAX_PIXELS // 10**6} million pixels'
    if isinstance(error, OSError) and error.strerror:
        return f'cannot be read: {error.strerror}'
    return f'broken picture: {" ".join(str(error).split()) or type(error).__name__}'
