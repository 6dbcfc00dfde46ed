"""Checks the file of --out before the work, and writes it atomically afterwards."""

import os
from importlib.util import find_spec
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.files import check_folder, write_atomically

SUFFIXES = ('.html', '.csv', '.json')


def check_out(out: Path, data: Path) -> None:
    """Raises an :class:`InputError`, before the photos in ``data`` are read, unless ``out`` can be written."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f'--out {out}: the name must end in {", ".join(SUFFIXES)}')
    if out.is_dir():
        raise InputError(f'{out}: is a folder; name a file')
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(data)):
        raise InputError(f'{out}: lies in {data}, which is only read; name a file elsewhere')
    check_folder(out.parent)
    if out.suffix.lower() == '.html' and find_spec('jinja2') is None:
        raise InputError('the page needs Jinja2: pip install Jinja2 (or write .csv or .json)')


def write_out(out: Path, text: str) -> None:
    """Writes a report atomically; bytes of names that are not UTF-8 are escaped."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(text.encode(errors='backslashreplace')))
