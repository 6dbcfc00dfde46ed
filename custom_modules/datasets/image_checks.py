"""Checks of single images: unreadable files, odd formats, and CleanVision's scores for odd pictures."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePath
from statistics import median
from typing import Any

import cv2
import numpy as np
from PIL import Image

from custom_modules.errors import InputError
from custom_modules.photos.decoding import decode
from custom_modules.photos.fingerprint import IMPORTS, Fingerprint, fingerprint
from custom_modules.photos.opening import FORMATS, orientation, why_unreadable
from custom_modules.photos.parallel import map_photos
from custom_modules.progress import StepProgress

# CleanVision's names of what it looks for. Its "blurry" is not among them: of the 2278 flower photos it marks 13 good
# ones with a soft background and misses the one that is blurred. Nor is "grayscale", which only sees how pixels are
# stored: the 41 grey flower photos are all stored as RGB.
SCORED = ('dark', 'light', 'low_information', 'odd_aspect_ratio', 'odd_size')
# Of the 2278 photos one has less, and it is blurred; the next has 0.13. All of 190 photos blurred by a Gaussian of 1 %
# of their long edge have less.
MIN_SHARPNESS = 0.1
# CleanVision's odd sizes are relative to the spread of the others: where most images have one size, any other is odd.
MIN_ODD_SIZE_FACTOR = 2  # of the median edge

_SAMPLE_EDGE, _SHARPNESS_EDGE = 128, 256  # pixels
_SUFFIXES = {
    'JPEG': ('.jpg', '.jpeg'),
    'PNG': ('.png',),
    'BMP': ('.bmp',),
    'WEBP': ('.webp',),
    'TIFF': ('.tif', '.tiff'),
    'GIF': ('.gif',),
}


@dataclass
class CheckedImage:
    """One image and the findings about it alone.

    Args:
        fingerprint: Identity by content and by appearance.
        findings: Pairs of a kind of finding (``dataset_checks.KINDS``) and a detail.
        width: In pixels, upright, as training sees it; 0 if unreadable.
        height: In pixels, upright.
        measures: CleanVision's raw measures, and ``sharpness``; empty if unreadable.
    """

    fingerprint: Fingerprint
    findings: list[tuple[str, str]]
    width: int = 0
    height: int = 0
    measures: dict[str, float] = field(default_factory=dict)


def check_images(
    paths: Sequence[Path], crop: int = 224, workers: int | None = None, progress: StepProgress | None = None
) -> list[CheckedImage]:
    """Checks image files in parallel processes.

    Args:
        paths: The files.
        crop: Edge of the square that training cuts out, in pixels.
        workers: Number of processes; None for one per core, 8 at most, fewer for few images.
        progress: Called with the numbers of images done and in all.

    Returns:
        One result per path, in the order of the paths.

    Raises:
        InputError: CleanVision is not installed, or a process was killed.
    """
    if find_spec('cleanvision') is None:
        raise InputError('checking images needs CleanVision: pip install "cleanvision>=0.3.7,<0.4"')
    imports = (*IMPORTS, 'cleanvision')
    images = map_photos(partial(check_image, crop=crop), paths, imports, workers, progress)
    _add_scores([image for image in images if image.measures])
    return images


def check_image(path: str | os.PathLike[str], crop: int) -> CheckedImage:
    """Reads one image as training does, with OpenCV; problems become findings, nothing is raised.

    Pillow reports the format and whether the file is complete: OpenCV silently fills missing parts with grey.
    """
    identity = fingerprint(path)
    problem = identity.problem
    if problem:
        return CheckedImage(identity, [('empty' if problem == 'empty file' else 'broken', problem)])
    try:
        content = Path(path).read_bytes()  # cv2.imread fails on names that are not UTF-8
        findings = _format_findings(content, PurePath(path).suffix.lower())
        picture = decode(content)
        height, width = picture.shape[:2]
        if min(width, height) < crop:
            findings.append(('tiny' if 2 * min(width, height) < crop else 'small', f'{width} x {height}'))
        sample = picture[:: -(-height // _SAMPLE_EDGE), :: -(-width // _SAMPLE_EDGE)]
        if (sample == sample[..., :1]).all():
            findings.append(('grey', 'no colour'))
        return CheckedImage(identity, findings, width, height, _measure(picture))
    except ImportError:  # CleanVision is imported late
        raise
    except Exception as error:  # on garbage, decoders raise almost anything
        return CheckedImage(identity, [('broken', why_unreadable(error))])


def _format_findings(content: bytes, suffix: str) -> list[tuple[str, str]]:
    """Findings about how a file stores its image; pixels are decoded only to look for transparency."""
    found = []
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        format_ = 'JPEG' if image.format == 'MPO' else str(image.format)  # phones append a preview to the image
        if suffix not in _SUFFIXES[format_]:
            found.append(('misnamed', f'{format_} inside'))
        if image.mode == 'CMYK':
            found.append(('cmyk', ''))
        if ';16' in str(image.tile):  # before loading, where Pillow converts 16 bits to 8; reading a PNG's EXIF loads
            found.append(('deep', image.mode))
        if image.format != 'MPO' and getattr(image, 'is_animated', False):
            found.append(('animated', format_))
        if image.mode in ('P', 'PA'):
            found.append(('palette', image.mode))
        if (turn := orientation(image)) != 1:
            found.append(('orientation', f'EXIF orientation {turn}'))
        if image.has_transparency_data and image.convert('RGBA').getchannel('A').getextrema() != (255, 255):
            found.append(('transparent', image.mode))
    return found


def _measure(picture: np.ndarray) -> dict[str, float]:
    """CleanVision's raw measures of a (H, W, 3) uint8 BGR image, and its sharpness.

    Brightness and entropy are those of a sample of the pixels, which has the same histogram: CleanVision takes a
    second for the pixels of a phone photo.
    """
    height, width = picture.shape[:2]
    step = -(-max(height, width) // _SAMPLE_EDGE)
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    sample = Image.fromarray(rgb[:: min(step, height), :: min(step, width)].copy())
    whole = Image.fromarray(rgb)
    measures = {'sharpness': _sharpness(picture)}
    for name, property_ in _cleanvision().image_properties.items():
        if name in SCORED:
            measures |= property_.calculate(whole if name.startswith('odd') else sample)
    return measures


def _sharpness(picture: np.ndarray) -> float:
    """Share of fine detail in the sharpest part of a (H, W, 3) uint8 image, 0 to 1.

    At 256 pixels, in windows of 32: the energy that a Gaussian of one pixel removes, relative to the variance, as a
    ratio of amplitudes. A flower in focus has sharp windows also before a soft background. The idea is that of Crete
    et al., "The Blur Effect" (2007): blurring a blurred image changes little.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    ratio = _SHARPNESS_EDGE / max(grey.shape)
    if ratio < 1:
        size = [max(1, round(edge * ratio)) for edge in grey.shape[::-1]]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    level = grey.astype(np.float32)
    windows = [max(1, edge // 8) for edge in grey.shape[::-1]]  # one every 8 pixels
    detail, mean, square = (
        cv2.boxFilter(cv2.resize(values, windows, interpolation=cv2.INTER_AREA), -1, (4, 4))
        for values in ((level - cv2.GaussianBlur(level, (0, 0), 1)) ** 2, level, level**2)
    )
    variance = square - mean**2
    # In flat windows the detail is noise; a standard deviation of 10 grey levels is enough.
    seen = variance > min(100, max(1, float(np.percentile(variance, 90))))
    return float(np.sqrt(np.percentile(detail[seen] / variance[seen], 95))) if seen.any() else 1.0


def _add_scores(images: Sequence[CheckedImage]) -> None:
    """Adds the findings that CleanVision's thresholds, and ours for sharpness, make of the measures."""
    import pandas as pd

    if not images:
        return
    scoring = _cleanvision()
    scoring.issues = pd.DataFrame(index=range(len(images)))
    scoring.update_issues(pd.DataFrame([image.measures for image in images]), SCORED)
    middle = median(image.measures['size'] for image in images)
    for image, (_, row) in zip(images, scoring.issues.iterrows(), strict=True):
        size = f'{image.width} x {image.height}'
        short, long = sorted((image.width, image.height))
        kinds = [kind for kind in SCORED if row[f'is_{kind}_issue']]
        if image.measures['sharpness'] < MIN_SHARPNESS:
            kinds.append('blurry')
        for kind in kinds:
            if kind == 'odd_size':
                factor = image.measures['size'] / middle
                if max(factor, 1 / factor) > MIN_ODD_SIZE_FACTOR and ('tiny', size) not in image.findings:
                    image.findings.append((kind, size))
            elif kind == 'odd_aspect_ratio':
                image.findings.append((kind, f'{size}, {long / short:.1f} : 1'))
            elif kind == 'low_information' or 'low_information' not in kinds:  # else dark, light or blurry as well
                score = image.measures['sharpness'] if kind == 'blurry' else row[f'{kind}_score']
                image.findings.append((kind, f'score {score:.2f}'))


def _cleanvision() -> Any:
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager

    return ImagePropertyIssueManager()
