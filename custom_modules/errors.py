"""Errors that a user can fix, and how the tools print them: one line each, without a traceback."""

import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from traceback import extract_tb

from custom_modules.upstream import quieten

# Errors of a folder or disk that cannot be used; other OSErrors are bugs and keep their traceback.
UNUSABLE = PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError
UNUSABLE_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENAMETOOLONG}
MAX_PRINTED = 20
# Errors of building a part that a user has configured.
AS_CONFIGURED = TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError, FileNotFoundError


class InputError(ValueError):
    """Unusable input: each problem is one line that says what is wrong, where, and what to do.

    Args:
        problems: One line each; all of them at once rather than the first of many.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__('\n'.join(problems))
        self.problems = problems


class LocalError(InputError):
    """Unusable input that only one process has met; that process prints it, whatever its rank."""


class PhotoError(LocalError):
    """A photo that cannot be read."""

    def __init__(self, problem: str) -> None:
        # A DataLoader's worker passes its exception on as one text: where it was raised, then the message.
        super().__init__(problem.rpartition(f'{__name__}.PhotoError: ')[2].strip())


def require_packages(packages: Mapping[str, str], what: str) -> None:
    """Refuses what needs packages that are not installed: the requirement of each, by the module that it provides."""
    if missing := [name for module, name in packages.items() if find_spec(module) is None]:
        raise InputError(f'{what}: {", ".join(missing)} not installed. Run: pip install {shlex.join(missing)}')


@contextmanager
def collect(problems: list[str]) -> Iterator[None]:
    """Appends the problems of an :class:`InputError` to a list, so that :func:`refuse` raises all together later."""
    try:
        yield
    except InputError as error:
        problems += error.problems


def refuse(problems: Iterable[str]) -> None:
    """Raises an :class:`InputError` with the first 20 different problems and the number of the others, if any."""
    lines = list(dict.fromkeys(problems))
    if more := len(lines[MAX_PRINTED:]):
        lines = [*lines[:MAX_PRINTED], f'and {more} more']
    if lines:
        raise InputError(*lines)


@contextmanager
def as_configured(part: str, remedy: str = 'Correct the config or --cfg-options.') -> Iterator[None]:
    """Turns what building ``part`` of a config raises into an :class:`InputError`: a user wrote that part."""
    try:
        yield
    except InputError:
        raise
    except (*AS_CONFIGURED, ImportError) as error:
        raise InputError(f'{part}: {said_by(error)}. {remedy}') from error


def said_by(error: Exception) -> str:
    """Kind and first line of an exception; a bare ``assert``, as upstream has many, is quoted."""
    lines = str(error).strip().splitlines() or [frame.line or '' for frame in extract_tb(error.__traceback__)[-1:]]
    return ': '.join(part for part in (type(error).__name__, *lines[:1]) if part)


def first_on_machine() -> bool:
    """Whether this process is the first, or only, one that a launcher started on this machine."""
    return all(os.environ.get(name, '0') == '0' for name in ('LOCAL_RANK', 'SLURM_LOCALID'))


def run_tool(main: Callable[[], int]) -> int:
    """Runs a tool's ``main``. Errors that a user can fix become lines on stderr and exit code 2; Ctrl-C gives 130."""
    quieten()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes file names that the terminal cannot show
            stream.reconfigure(errors='backslashreplace')
    problems: tuple[str, ...]
    everywhere = False
    try:
        return main()
    except KeyboardInterrupt:
        code, problems = 130, ('interrupted',)
    except InputError as error:
        code, problems, everywhere = 2, error.problems, isinstance(error, LocalError)
    except BrokenPipeError:  # the reader of the output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:
        if not isinstance(error, UNUSABLE) and error.errno not in UNUSABLE_NUMBERS:
            raise
        problem = f'{error.filename or "writing"}: {error.strerror}. Free some space, or name another folder.'
        code, problems, everywhere = 2, (problem,), True
    except ImportError as error:
        remedy = 'pip install -r requirements.txt'
        if 'libGL' in str(error):
            # opencv-python, which mmcv-lite requires, links a library that servers and containers lack.
            remedy = (
                'apt-get install libgl1, or replace it by the headless build: '
                'pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless'
            )
        elif not isinstance(error, ModuleNotFoundError) or (error.name or 'custom_modules').startswith('custom_'):
            raise
        code, problems = 2, (f'{error}: {remedy}',)
    # Once per machine, not per process: the problem may be on one machine only.
    if everywhere or first_on_machine():
        for problem in problems:
            print(f'error: {problem}', file=sys.stderr)
    return code
