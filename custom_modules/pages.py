"""Pages that stand for themselves: templates are filled, photos made small and put inside. Nothing is judged."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError
from custom_modules.files import printable


def render(template: Path, **values: Any) -> str:
    """Returns a page; names that hold HTML, or Markdown in a page of that, are shown as they are.

    Args:
        template: An ``.html`` file, or an ``.md`` file, which can show a value as code by the filter ``code``.
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
