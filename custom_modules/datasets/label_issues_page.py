"""Doubtful labels as one HTML page with their photos in it, for a person to look through. Nothing is judged here.

The page needs no network and no other file; label_issues.html is its template.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from custom_modules.datasets.label_issues import Suspect

TEMPLATE = Path(__file__).with_name('label_issues.html')
MAX_CARDS = 1000  # about 15 MB; a browser on a phone still shows it
THUMBNAIL = 256  # pixels, the longer side


def render_page(
    root: Path, photos: int, suspects: Sequence[Suspect], unreadable: Sequence[tuple[str, str]], name: str = ''
) -> str:
    """The page as text.

    Args:
        root: The folder that the suspects' paths are relative to.
        photos: Number of photos judged.
        suspects: The most doubtful first; the first thousand are shown.
        unreadable: Path and reason of photos that were not judged.
        name: What to call the folder. Defaults to its own name.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pairs = Counter((suspect.label, suspect.suggested) for suspect in suspects)
    return environment.get_template(TEMPLATE.name).render(
        name=name or root.resolve().name,
        photos=photos,
        total=len(suspects),
        pairs=[(*pair, count) for pair, count in pairs.most_common()],
        cards=[(suspect, thumbnail(root / suspect.path)) for suspect in suspects[:MAX_CARDS]],
        unreadable=unreadable,
    )


def thumbnail(photo: Path, size: int = THUMBNAIL) -> str:
    """A small JPEG of a photo, turned as its EXIF says, as a ``data:`` address."""
    with Image.open(photo) as image:
        image.draft('RGB', (size, size))  # JPEG: decodes no more than is needed
        small = ImageOps.exif_transpose(image).convert('RGB')
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, 'JPEG', quality=80)
    return f'data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}'
