"""Pages that stand for themselves: templates are filled, photos made small and put inside. Nothing is judged."""

import base64
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom_modules.datasets.raw_folders import printable
from custom_modules.errors import InputError

THUMBNAIL = 320  # pixels, the longer side


def render(template: str | Path, **values: Any) -> str:
    """Returns a page; names that hold HTML, or Markdown in a page of that, are shown as they are.

    Args:
        template: A file in this folder, or the whole path of one elsewhere; ``.html``, or ``.md``, which can show a
            value as code by the filter ``code``.
        values: What it shows; one that is missing is an error.

    Raises:
        InputError: Jinja2 is not installed.
        LookupError: A value is missing.
    """
    check_jinja()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
    from markupsafe import Markup

    def markdown(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape_markdown(value))

    file = Path(__file__).parent / template
    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=True,
        finalize=markdown if file.suffix == '.md' else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=file.suffix == '.md',
    )
    environment.filters['code'] = lambda value: Markup(markdown_code(value))
    try:
        return environment.get_template(file.name).render(**values)
    except UndefinedError as error:
        raise LookupError(str(error)) from error


def check_jinja() -> None:
    """Makes sure that pages can be filled.

    Raises:
        InputError: Jinja2 is not installed.
    """
    if find_spec('jinja2') is None:
        raise InputError('pages and model cards need Jinja2: pip install Jinja2')


def escape_markdown(value: Any) -> str:
    """Shown as it is: what means something to Markdown or HTML becomes a character reference."""
    return re.sub(r'[\\`*\[\]<>&|~]|(?<!\w)_|_(?!\w)', lambda found: f'&#{ord(found[0])};', printable(str(value)))


def markdown_code(value: Any) -> str:
    """As code, where the characters in it allow that."""
    text = printable(str(value))
    return escape_markdown(text) if not text or set('`|') & set(text) else f'`{text}`'


def thumbnail(photo: Path, size: int = THUMBNAIL) -> str | None:
    """A small JPEG of a photo as a ``data:`` address, read as training reads it: turned as its EXIF says.

    None for one that cannot be read any more.
    """
    import cv2
    import numpy as np

    try:
        picture = cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    if picture is None:
        return None
    scale = min(1, size / max(picture.shape[:2]))
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return data_address(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))


def data_address(picture: Any) -> str:
    """A picture, (H, W, 3) uint8, BGR, as the ``data:`` address of a JPEG."""
    import cv2

    _, jpeg = cv2.imencode('.jpg', picture, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}'
