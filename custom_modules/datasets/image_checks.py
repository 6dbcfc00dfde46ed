"""What one photo is, file and picture, and what is odd about it. Photos are not compared here: dataset_checks.py."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from custom_modules.photos.fingerprint import IMPORTS, Fingerprint, fingerprint, require_imagehash
from custom_modules.photos.opening import FORMATS, orientation, why_unreadable
from custom_modules.photos.parallel import map_photos
from custom_modules.progress import StepProgress

if TYPE_CHECKING:
    import numpy as np

# CleanVision's scores and thresholds, 0 to 1, low is bad. None of the 2278 flower photos is below. The formulas are
# written down here and a test compares them: importing CleanVision brings pandas and matplotlib, which takes a second.
MIN_DARK_SCORE = 0.32  # brightness of the 99th percentile
MIN_LIGHT_SCORE = 0.05  # 1 - brightness of the 5th percentile
MIN_ASPECT_SCORE = 0.35  # short edge / long edge
MIN_INFORMATION_SCORE = 0.25  # entropy / 10; CleanVision's 0.3 comes close to a good daisy on black, 0.31
# Ours, see _sharpness. Of the 2278 photos one is below, and it is blurred; the next has 0.13. Of 190 blurred by
# a Gaussian of 1 % of their long edge all are below. CleanVision's own score marks 13 good ones, flowers before a soft
# background, not that one, and 11 % of the 190.
MIN_SHARPNESS = 0.1
ODD_SIZE_RANGES = 3  # interquartile ranges beyond the quartiles: Tukey's "far out", as CleanVision has it
ODD_SIZE_FACTOR = 2  # of the median edge; the ranges alone, among photos of one size, mark those one pixel off

_FORMAT_OF_SUFFIX = {
    '.jpg': 'JPEG',
    '.jpeg': 'JPEG',
    '.png': 'PNG',
    '.bmp': 'BMP',
    '.webp': 'WEBP',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
}
_SAMPLE_EDGE, _SHARPNESS_EDGE = 128, 256  # pixels
_WINDOW_EDGE, _WINDOW_STEP = 32, 8  # pixels


@dataclass(frozen=True)
class Photo:
    """What is known of one file.

    Args:
        fingerprint: By content and by look.
        problem: Why training cannot read it, or reads only a part of it; None when it can. Nothing else is known then.
        width: In pixels, upright, as training sees it.
        height: In pixels, upright, as training sees it.
        format: Pillow's name of the file format, such as ``'JPEG'``.
        mode: Pillow's name of how pixels are stored, such as ``'CMYK'``.
        orientation: The EXIF tag, 1 to 8; 1 is upright.
        deep: Whether a channel has 16 bits.
        animated: Whether there is more than one picture in the file.
        transparent: Whether a pixel is not opaque.
        grey: Whether the three channels are equal everywhere.
        brightness: 5th and 99th percentile of the pixels', 0 to 1.
        entropy: Of the histograms of the three channels together, in bits.
        sharpness: Share of fine detail in the sharpest part of the picture, 0 to 1.
        odd_size: Whether it is much larger or smaller than the others.
    """

    fingerprint: Fingerprint
    problem: str | None = None
    width: int = 0
    height: int = 0
    format: str = ''
    mode: str = ''
    orientation: int = 1
    deep: bool = False
    animated: bool = False
    transparent: bool = False
    grey: bool = False
    brightness: tuple[float, float] = (0.0, 1.0)
    entropy: float = 10.0
    sharpness: float = 1.0
    odd_size: bool = False

    @property
    def scores(self) -> dict[str, float]:
        """CleanVision's scores by kind of finding, 0 to 1, low is bad."""
        low, high = self.brightness
        return {'dark': high, 'light': 1 - low, 'low_information': min(1.0, 0.1 * self.entropy)}


def inspect_all(
    paths: Sequence[Path], workers: int | None = None, progress: StepProgress | None = None
) -> list[Photo]:
    """Reads photos on all cores.

    Args:
        paths: The photos.
        workers: Number of processes; None for one per core, 8 at most, and none but this one for few photos.
        progress: Called now and then with the numbers of photos done and in all.

    Raises:
        InputError: imagehash is not installed, or a process was killed.
    """
    require_imagehash()
    return _mark_odd_sizes(map_photos(inspect, paths, IMPORTS, workers, progress))


def inspect(path: str | os.PathLike[str]) -> Photo:
    """Reads one photo as training does, by OpenCV; whatever is wrong becomes :attr:`Photo.problem`, nothing is raised.

    Pillow says what kind of file it is and whether it is whole: OpenCV fills what is missing with grey in silence.
    """
    print_ = fingerprint(path)
    if print_.problem:
        return Photo(print_, print_.problem)
    try:
        import cv2
        import numpy as np

        with open(path, 'rb') as file:  # not cv2.imread, which fails on names that are not UTF-8
            content = file.read()
        header = _header(content)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            return Photo(print_, 'OpenCV, with which training reads, cannot decode it')
        height, width = picture.shape[:2]
        return Photo(print_, None, width, height, **header, **_measure(picture))
    except Exception as error:  # fed with garbage, decoders raise almost anything
        return Photo(print_, why_unreadable(error))


def photo_findings(path: str, photo: Photo, crop: int = 224) -> list[tuple[str, str]]:
    """Says what is odd about one photo.

    Args:
        path: Its name, for the suffix.
        photo: What is known of it.
        crop: Edge of the square that training cuts out, in pixels.

    Returns:
        Pairs of a kind of finding (``dataset_checks.KINDS``) and a detail.
    """
    if photo.problem:
        return [('empty' if photo.problem == 'empty file' else 'broken', photo.problem)]
    found = []
    expected = _FORMAT_OF_SUFFIX.get(PurePath(path).suffix.lower())
    if expected not in (None, photo.format):
        found.append(('misnamed', f'{photo.format} inside'))
    size = f'{photo.width} x {photo.height}'
    short, long = sorted((photo.width, photo.height))
    if 2 * short < crop:
        found.append(('tiny', size))
    elif short < crop:
        found.append(('small', size))
    if photo.odd_size and 2 * short >= crop:
        found.append(('odd_size', size))
    if short / long < MIN_ASPECT_SCORE:
        found.append(('odd_aspect_ratio', f'{size}, {long / short:.1f} : 1'))
    if photo.scores['low_information'] < MIN_INFORMATION_SCORE:
        # A picture of one colour is dark or bright and blurry as well, which says no more.
        found.append(('low_information', f'score {photo.scores["low_information"]:.2f}'))
    else:
        found += [
            (kind, f'score {photo.scores[kind]:.2f}')
            for kind, least in (('dark', MIN_DARK_SCORE), ('light', MIN_LIGHT_SCORE))
            if photo.scores[kind] < least
        ]
        if photo.sharpness < MIN_SHARPNESS:
            found.append(('blurry', f'sharpness {photo.sharpness:.2f}'))
    if photo.mode == 'CMYK':
        found.append(('cmyk', ''))
    if photo.deep:
        found.append(('deep', photo.mode))
    if photo.animated:
        found.append(('animated', photo.format))
    if photo.transparent:
        found.append(('transparent', photo.mode))
    if photo.mode in ('P', 'PA'):
        found.append(('palette', photo.mode))
    if photo.grey:
        found.append(('grey', photo.mode))
    if photo.orientation != 1:
        found.append(('orientation', f'EXIF orientation {photo.orientation}'))
    return found


def _header(content: bytes) -> dict[str, Any]:
    """Returns what Pillow knows of a file; its pixels are decoded only where there is transparency."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        facts: dict[str, Any] = {
            'format': 'JPEG' if image.format == 'MPO' else image.format,  # phones put a preview after the photo
            'mode': image.mode,
            # Before the pixels are loaded, which reading a PNG's EXIF does: Pillow makes 8 bits of 16 then.
            'deep': ';16' in str(image.tile),
            'orientation': orientation(image),
            'animated': image.format != 'MPO' and getattr(image, 'is_animated', False),
        }
        if image.has_transparency_data:
            alpha = image.getchannel('A') if 'A' in image.getbands() else image.convert('RGBA').getchannel('A')
            facts['transparent'] = alpha.getextrema() != (255, 255)
    return facts


def _measure(picture: 'np.ndarray') -> dict[str, Any]:
    """Returns what CleanVision measures of a (H, W, 3) uint8 BGR picture, its sharpness, and whether it is grey.

    Of a sample of the pixels, which has the same histogram: all of them take several times as long as decoding.
    """
    import numpy as np
    from PIL import Image

    height, width = picture.shape[:2]
    step = -(-max(height, width) // _SAMPLE_EDGE)
    sample = picture[:: min(step, height), :: min(step, width), ::-1].copy()
    red, green, blue = (sample[..., channel].astype(int) for channel in range(3))
    # As the eye has it: http://alienryderflex.com/hsp.html
    brightness = np.sqrt(0.241 * (red * red) + 0.691 * (green * green) + 0.068 * (blue * blue)) / 255
    low, high = np.percentile(brightness, (5, 99)).tolist()
    return {
        'brightness': (low, high),
        'entropy': Image.fromarray(sample).entropy(),
        'sharpness': _sharpness(picture),
        'grey': bool((sample == sample[..., :1]).all()),
    }


def _sharpness(picture: 'np.ndarray') -> float:
    """Returns the share of fine detail in the sharpest part of a (H, W, 3) uint8 picture, 0 to 1.

    At 256 pixels, in each window of 32: the energy that a Gaussian of one pixel takes away, relative to the variance,
    as a ratio of amplitudes. A flower in focus before a soft background has windows that are sharp, a blurred photo
    has none. The idea is that of Crete et al., "The Blur Effect" (2007): blurring again changes a blurred picture
    little.
    """
    import cv2
    import numpy as np

    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    ratio = _SHARPNESS_EDGE / max(height, width)
    if ratio < 1:
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    level = grey.astype(np.float32)
    detail, mean, square = (
        _windows(values) for values in ((level - cv2.GaussianBlur(level, (0, 0), 1)) ** 2, level, level**2)
    )
    variance = square - mean**2
    # Where there is nothing to see, the detail is noise: a spread of 10 grey values is something.
    seen = variance > min(100, max(1, float(np.percentile(variance, 90))))
    if not seen.any():
        return 1.0
    return float(np.sqrt(np.percentile(detail[seen] / variance[seen], 95)))


def _windows(values: 'np.ndarray') -> 'np.ndarray':
    """Returns the means of (H, W) float32 values in windows of 32, one every 8 pixels."""
    import cv2

    height, width = values.shape
    size = (max(1, width // _WINDOW_STEP), max(1, height // _WINDOW_STEP))
    edge = _WINDOW_EDGE // _WINDOW_STEP
    return cv2.boxFilter(cv2.resize(values, size, interpolation=cv2.INTER_AREA), -1, (edge, edge))


def _mark_odd_sizes(photos: Sequence[Photo]) -> list[Photo]:
    """Returns the photos, all at once, for an odd size is odd among the others."""
    import numpy as np

    edges = [math.sqrt(photo.width * photo.height) for photo in photos]
    readable = [edge for photo, edge in zip(photos, edges, strict=True) if not photo.problem]
    if not readable:
        return list(photos)
    lower, median, upper = np.percentile(readable, (25, 50, 75))
    beyond = ODD_SIZE_RANGES * (upper - lower)
    least, most = min(lower - beyond, median / ODD_SIZE_FACTOR), max(upper + beyond, median * ODD_SIZE_FACTOR)
    return [
        photo if photo.problem or least <= edge <= most else replace(photo, odd_size=True)
        for photo, edge in zip(photos, edges, strict=True)
    ]
