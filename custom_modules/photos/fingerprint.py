"""Fingerprints images by content and appearance, and groups near-duplicates."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL.Image import Image

from custom_modules.photos.image_files import open_photo, upright, why_unreadable

PHASH_BITS, DHASH_BITS = 64, 256
# Two photos are near-duplicates when both distances are within these. Measured on the 2278 flower photos: 456 of them,
# each copied in eight ways (half size, JPEG quality 50, PNG, brightness +-5 %, cropped by 1 or 2 % on every edge or by
# 2 % at top and left), make 3648 copies, of which all but two are found; of the 2.6 million pairs of photos, 13 are
# within, and all 13 are true, looked at. Alone, pHash would make 1003 pairs of them, and dHash 17.
MAX_PHASH_DISTANCE, MAX_DHASH_DISTANCE = 16, 56

_REDUCED_SIDE = 64  # pixels; JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, no smaller than this


@dataclass(frozen=True)
class Fingerprint:
    """Identity of an image by content and appearance."""

    sha256: str | None  # of the file's bytes, in hex; None when the file cannot be read at all
    phash: int | None  # 320 bits: a pHash of 64 above a dHash of 256; None when no picture can be decoded
    problem: str | None = None  # why there is no perceptual hash


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Fingerprints one image as training sees it: upright, without alpha, the first frame of several.

    A copy whose EXIF was dropped without turning the pixels looks different, here as in training. Problems with the
    file become :attr:`Fingerprint.problem`; nothing is raised.
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
    except Exception as error:  # fed with garbage, decoders raise almost anything
        return Fingerprint(sha256, None, why_unreadable(error))


def group_near_duplicates(hashes: Sequence[int | None]) -> list[list[int]]:
    """Groups perceptual hashes that are near each other, directly or through others between them.

    Every pair is compared, so none is missed; 100 000 hashes take some seconds and some 50 MB. The groups are of two
    or more positions in ``hashes``, each sorted, ordered by their first; None is in no group.
    """
    positions = [position for position, value in enumerate(hashes) if value is not None]
    size = (PHASH_BITS + DHASH_BITS) // 8
    content = b''.join(value.to_bytes(size, 'big') for value in hashes if value is not None)
    words = np.frombuffer(content, '>u8').astype(np.uint64)
    phash, dhash = np.split(words.reshape(-1, size // 8), [1], axis=1)
    phash = phash.ravel().copy()
    groups = np.arange(len(phash))  # the first of the group that each is in
    for row in range(len(phash)):
        near = row + 1 + np.flatnonzero(np.bitwise_count(phash[row] ^ phash[row + 1 :]) <= MAX_PHASH_DISTANCE)
        near = near[groups[near] != groups[row]]
        near = near[np.bitwise_count(dhash[row] ^ dhash[near]).sum(1) <= MAX_DHASH_DISTANCE]
        if len(near):
            joined = np.append(groups[near], groups[row])
            groups[np.isin(groups, joined)] = joined.min()
    together: dict[int, list[int]] = {}
    for group, position in zip(groups.tolist(), positions, strict=True):
        together.setdefault(group, []).append(position)
    return [group for group in together.values() if len(group) > 1]


def _perceptual_hash(image: Image) -> int:
    """Returns pHash (Zauner 2010, section 3.2.1) and dHash (Krawetz 2013), as imagehash has them, in one number."""
    image.draft('L', (_REDUCED_SIDE, _REDUCED_SIDE))  # JPEG: decode the brightness alone, and reduced
    grey = upright(image).convert('L')
    return int(f'{imagehash.phash(grey)}{imagehash.dhash(grey, hash_size=16)}', 16)
