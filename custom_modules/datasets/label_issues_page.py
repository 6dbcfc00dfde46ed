"""Doubtful labels as one HTML page with their photos in it, for a person to look through. Nothing is judged here.

The page needs no network and no other file; label_issues.html is its template.
"""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from custom_modules.datasets.label_issues import Suspect
from custom_modules.errors import InputError

TEMPLATE = Path(__file__).with_name('label_issues.html')
MAX_CARDS = 1000  # about 20 MB; a browser on a phone still shows it
THUMBNAIL = 320  # pixels, the longer side


def render_page(root: Path, photos: int, suspects: Sequence[Suspect], unreadable: Sequence[tuple[str, str]]) -> str:
    """The page as text.

    Args:
        root: The folder that the suspects' paths are relative to.
        photos: Number of photos judged.
        suspects: The most doubtful first; the first thousand are shown.
        unreadable: Path and reason of photos that were not judged.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pairs = Counter((suspect.label, suspect.suggested) for suspect in suspects)
    return environment.get_template(TEMPLATE.name).render(
        name=root.resolve().name,
        photos=photos,
        total=len(suspects),
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        cards=[(suspect, thumbnail(root / suspect.path)) for suspect in suspects[:MAX_CARDS]],
        unreadable=unreadable,
    )


def thumbnail(photo: Path, size: int = THUMBNAIL) -> str:
    """A small JPEG of a photo as a ``data:`` address, read as training reads it: turned as its EXIF says."""
    picture = cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f'{photo}: changed while it was being looked at; run again')
    scale = min(1, size / max(picture.shape[:2]))
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', small, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}'
