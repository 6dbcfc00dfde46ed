"""Checks of single images: unreadable files, odd formats, and CleanVision's scores for odd pictures."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from PIL import Image

from custom_modules.errors import require_packages
from custom_modules.photos.decoding import decode_photo
from custom_modules.photos.fingerprint import Fingerprint, fingerprint
from custom_modules.photos.image_files import KINDS, open_photo, orientation, why_unreadable
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


@dataclass
class CheckedImage:
    """One image, upright as training sees it, and the findings about it alone; without a size if unreadable."""

    fingerprint: Fingerprint
    findings: list[tuple[str, str]]  # kind (of dataset_checks.KINDS) and detail
    width: int = 0  # pixels
    height: int = 0
    measures: dict[str, float] = field(default_factory=dict)  # CleanVision's, and sharpness; empty if unreadable


def check_images(
    paths: Sequence[Path], crop: int = 224, workers: int | None = None, progress: StepProgress | None = None
) -> list[CheckedImage]:
    """Checks image files in parallel threads, as :func:`map_photos` runs them, for a crop of so many pixels.

    Raises:
        InputError: CleanVision is not installed.
    """
    require_packages({'cleanvision': 'cleanvision>=0.3.7,<0.4'}, 'checking images')
    images = map_photos(partial(check_image, crop=crop), paths, workers, progress)
    if readable := [image for image in images if image.measures]:
        _add_scores(readable)
    return images


def check_image(path: str | os.PathLike[str], crop: int) -> CheckedImage:
    """Reads one image as training does, with OpenCV; problems become findings, nothing is raised.

    Pillow reports the format and whether the file is complete: OpenCV silently fills missing parts with grey.
    """
    identity = fingerprint(path)
    if identity.problem:
        kind = 'empty' if identity.problem == 'empty file' else 'broken'
        return CheckedImage(identity, [(kind, identity.problem)])
    properties = _cleanvision().image_properties
    try:
        content = Path(path).read_bytes()  # cv2.imread fails on names that are not UTF-8
        findings = _format_findings(content, Path(path).suffix.lower())
        picture, _ = decode_photo(content)
        height, width = picture.shape[:2]
        if min(width, height) < crop:
            findings.append(('tiny' if 2 * min(width, height) < crop else 'small', f'{width} x {height}'))
        # Brightness, entropy and colour are those of a sample, which has the same histogram: CleanVision takes a
        # second for the pixels of a phone photo.
        step = -(-max(height, width) // _SAMPLE_EDGE)
        sample = picture[:: min(step, height), :: min(step, width)]
        if (sample == sample[..., :1]).all():
            findings.append(('grey', 'no colour'))
        measures = {'sharpness': _sharpness(picture)}
        for name, check in properties.items():
            if name in SCORED:
                pixels = picture if name.startswith('odd') else sample
                measures |= check.calculate(Image.fromarray(pixels[..., ::-1].copy()))
        return CheckedImage(identity, findings, width, height, measures)
    except Exception as error:  # on garbage, decoders raise almost anything
        return CheckedImage(identity, [('broken', why_unreadable(error))])


def _format_findings(content: bytes, suffix: str) -> list[tuple[str, str]]:
    """Findings about how a file stores its image; pixels are decoded only to look for transparency."""
    with open_photo(io.BytesIO(content)) as image:
        format_ = str(image.format)
        # Before loading, where Pillow converts 16 bits to 8; reading a PNG's EXIF loads.
        deep = ';16' in str(getattr(image, 'tile', ''))
        turn = orientation(image)
        transparent = image.has_transparency_data and image.convert('RGBA').getchannel('A').getextrema() != (255, 255)
        checks = {
            'misnamed': (suffix not in KINDS[format_][1], f'{format_} inside'),
            'cmyk': (image.mode == 'CMYK', ''),
            'deep': (deep, image.mode),
            'animated': (getattr(image, 'is_animated', False), format_),
            'palette': (image.mode in ('P', 'PA'), image.mode),
            'orientation': (turn != 1, f'EXIF orientation {turn}'),
            'transparent': (transparent, image.mode),
        }
    return [(kind, detail) for kind, (found, detail) in checks.items() if found]


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

    scoring = _cleanvision()
    scoring.issues = pd.DataFrame(index=range(len(images)))
    scoring.update_issues(pd.DataFrame([image.measures for image in images]), SCORED)
    middle = median(image.measures['size'] for image in images)
    for image, row in zip(images, scoring.issues.to_dict('records'), strict=True):
        scores = {kind: row[f'{kind}_score'] for kind in SCORED if row[f'is_{kind}_issue']}
        if image.measures['sharpness'] < MIN_SHARPNESS:
            scores['blurry'] = image.measures['sharpness']
        if 1 / MIN_ODD_SIZE_FACTOR <= image.measures['size'] / middle <= MIN_ODD_SIZE_FACTOR:
            scores.pop('odd_size', None)
        implied = ('dark', 'light', 'blurry') if 'low_information' in scores else ()
        size = f'{image.width} x {image.height}'
        image.findings += [
            (kind, f'{size}, score {score:.2f}') for kind, score in scores.items() if kind not in implied
        ]


def _cleanvision() -> Any:
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager

    return ImagePropertyIssueManager()
