"""Fills templates of HTML pages and Markdown documents, and writes reports to the file of --out."""

import os
import re
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError
from custom_modules.files import check_file, printable, write_atomically

SUFFIXES = ('.html', '.csv', '.json')  # of reports


def render(template: Path, **values: Any) -> str:
    """Fills a template; HTML in values, or Markdown in a Markdown template, is escaped.

    Args:
        template: An ``.html`` file, or an ``.md`` file, which can format a value as code with the filter ``code``.
        values: The values in it; a missing one is an error.

    Raises:
        LookupError: A value is missing.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
    from markupsafe import Markup

    def markdown(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape_markdown(value))

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        finalize=markdown if template.suffix == '.md' else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=template.suffix == '.md',
    )
    environment.filters['code'] = lambda value: Markup(markdown_code(value))
    try:
        return environment.get_template(template.name).render(**values)
    except UndefinedError as error:
        raise LookupError(str(error)) from error


def escape_markdown(value: Any) -> str:
    """Escapes everything special to Markdown or HTML as character references."""
    return re.sub(r'[\\`*\[\]<>&|~]|(?<!\w)_|_(?!\w)', lambda found: f'&#{ord(found[0])};', printable(str(value)))


def markdown_code(value: Any) -> str:
    """Formats as code, if the characters allow it."""
    text = printable(str(value))
    return escape_markdown(text) if not text or set('`|') & set(text) else f'`{text}`'


def check_out(out: Path, data: Path) -> None:
    """Raises an :class:`InputError`, before the photos in ``data`` are read, unless ``out`` can be written."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f'--out {out}: the name must end in {", ".join(SUFFIXES)}')
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(data)):
        raise InputError(f'{out}: lies in {data}, which is only read. Name a file elsewhere.')
    check_file(out)


def write_out(out: Path, text: str) -> None:
    """Writes a report atomically; bytes of names that are not UTF-8 are escaped."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(text.encode(errors='backslashreplace')))
