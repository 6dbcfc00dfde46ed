"""What goes wrong in a way the person at the keyboard can mend: raised anywhere, printed by the tools. No logic."""

import io
import os
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Unusable input: each problem is one line that says what is wrong, where, and what to do.

    Args:
        problems: One line each; all of them at once rather than the first of many.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__('\n'.join(problems))
        self.problems = problems


def run_tool(main: Callable[[], int]) -> int:
    """Runs a tool's ``main``; :class:`InputError` becomes lines on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the terminal cannot show must not end the tool
            stream.reconfigure(errors='backslashreplace')
    try:
        return main()
    except InputError as error:
        problems = error.problems
    except ImportError as error:
        if 'libGL' not in str(error):
            raise
        # opencv-python, which mmcv-lite requires, links a library that servers and containers lack.
        problems = (
            f'{error}: apt-get install libgl1, or put the build without windows in its place: '
            'pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless',
        )
    # Once on each machine, not once a process: what is wrong may be wrong on one machine alone.
    if all(os.environ.get(name, '0') == '0' for name in ('LOCAL_RANK', 'SLURM_LOCALID')):
        for problem in problems:
            print(f'error: {problem}', file=sys.stderr)
    return 2
