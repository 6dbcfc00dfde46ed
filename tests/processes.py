"""Tools in processes of their own that start at once: forked from a server that has imported torch and MMPretrain."""

import gc
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context('forkserver')
PRELOADED = ['mmpretrain.apis', 'mmpretrain.engine', 'torch.utils.tensorboard', 'matplotlib.pyplot', 'pkg_resources']
CONTEXT.set_forkserver_preload(PRELOADED)


def without(*modules: str) -> tuple[str, str]:
    """Arguments of Python before a script, which then runs as where these modules are not installed."""
    code = f'import runpy, sys\nsys.modules.update(dict.fromkeys({modules}))\nsys.argv = sys.argv[1:]\n'
    return '-c', f"{code}runpy.run_path(sys.argv[0], run_name='__main__')"


TRAINING = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'scipy', 'onnx', 'imagehash')
"""Modules that an exported model does without."""


def run_script(script: Path, argv: list[str], log: Path, environment: dict[str, str], path: Path) -> None:
    """Runs ``script`` as ``python script argv`` would, as the leader of a process group, in the log's folder."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C works, even if pytest ignores it
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    os.chdir(log.parent)
    sys.path.insert(0, str(path))
    sys.argv = [str(script), *argv]
    gc.freeze()  # MMEngine collects garbage for each dataset
    runpy.run_path(str(script), run_name='__main__')


class ToolProcess:
    """A tool in a process of its own; it appends its output to ``log`` and imports a test's hooks from ``path``."""

    def __init__(self, name: str, argv: Iterable[object], log: Path, path: Path, environment: dict[str, str]) -> None:
        self.log = log
        script = ROOT / 'tools' / f'{name}.py'
        args = (script, [str(arg) for arg in argv], log, environment, path)
        self.process = CONTEXT.Process(target=run_script, args=args)
        self.process.start()

    def send_at(self, line: str, number: int) -> None:
        """Sends a signal to the process group, as a terminal does, once ``line`` was printed."""
        while not self.log.is_file() or line not in self.log.read_text():
            assert self.process.is_alive(), self.log.read_text()
            time.sleep(0.02)
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Returns the exit code; a process that hangs is killed."""
        self.process.join(120)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        return self.process.exitcode


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
