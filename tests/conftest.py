"""Fixtures of all tests: drawn flowers as a prepared dataset, one tiny training, functions that call the tools."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from chromium import Chromium, chromium
from filelock import FileLock
from hypothesis import settings

ROOT = Path(__file__).parents[1]

os.environ.setdefault('OMP_NUM_THREADS', '1')  # models are tiny: threads would only wait for each other
settings.register_profile('any machine', deadline=None)  # a shared or busy one may be slow
settings.load_profile('any machine')

# 20 thousand weights at 32 pixels, in this process: an epoch takes a quarter of a second.
TINY_CONFIG = """
_base_ = {base!r}

# Fast batch-norm statistics and a low rate: otherwise float32's rounding grows a hundredfold.
model = dict(backbone=dict(widen_factor=0.25, init_cfg=None, norm_cfg=dict(type='BN', momentum=0.5)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
train_dataloader = dict(num_workers=0, dataset=dict(data_root={data!r}, pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root={data!r}, pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.02))
train_cfg = dict(max_epochs=2)
"""
# Drawing for TensorBoard takes half of the time of a tiny run: only `trained` does.
WITHOUT_DRAWING = """
default_hooks = dict(augmented_photos=None, validation_board=None)
"""


@dataclass(frozen=True)
class Result:
    """What a tool returned and printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr of a tool that was given unusable input."""
        assert self.code == 2, self
        (line,) = self.err.splitlines()
        assert line.startswith('error: '), line
        return line


@dataclass(frozen=True)
class Trained:
    """The one tiny training that tests may read, but not change."""

    work_dir: Path
    result: Result


def pytest_collection_finish() -> None:
    """Excludes imported modules from garbage collection.

    MMEngine collects garbage for each dataset: half of the time of a tiny run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def usual_signals() -> Iterator[None]:
    """Default handlers for Ctrl-C and a closed terminal, also where pytest was started with both ignored."""
    usual = {signal.SIGINT: signal.default_int_handler}
    if hasattr(signal, 'SIGHUP'):
        usual[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope='module')
def one_thread() -> Iterator[None]:
    """One thread for torch, as in ``tool_environment``: several threads add in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def tool_environment() -> dict[str, str]:
    """The environment for tools in processes of their own: one thread, no process group of a surrounding job."""
    kept = {k: v for k, v in os.environ.items() if k not in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')}
    return {**kept, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100'}


@pytest.fixture(scope='session')
def run_process(tool_environment: dict[str, str]) -> Callable[..., Result]:
    """A function that runs a tool in a process of its own: ``run_process('train', config, '--amp', cwd=…)``.

    ``before`` are arguments of Python before the tool's name; ``variables`` are added to the environment.
    """

    def run(name: str, *args: object, cwd: Path, before: tuple[str, ...] = (), **variables: str) -> Result:
        command = [sys.executable, *before, str(ROOT / 'tools' / f'{name}.py'), *map(str, args)]
        environment = {**tool_environment, **variables}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """A function that calls a tool's ``main`` in this process, in ``tmp_path``: ``call('train', config, '--amp')``."""
    import importlib

    from custom_modules.errors import run_tool

    monkeypatch.setenv('LOCAL_RANK', '0')  # restored after the test: the tools set it
    monkeypatch.setenv('COLUMNS', '100')  # as in tool_environment, whatever the terminal
    monkeypatch.chdir(tmp_path)

    def run(name: str, *args: object) -> Result:
        main = importlib.import_module(f'tools.{name}').main
        if 'mmengine' in sys.modules:
            # Runs are named by config and second: two in one second would share a log.
            from mmengine.logging import MessageHub, MMLogger
            from mmpretrain.visualization import UniversalVisualizer

            for kind in (MessageHub, MMLogger, UniversalVisualizer):
                kind._instance_dict.clear()
        capfd.readouterr()
        code = run_tool(lambda: main([str(arg) for arg in args]))
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def browser() -> Iterator[Chromium]:
    """A page of a headless Chromium; without one, the test is skipped."""
    with chromium() as page:
        yield page


@pytest.fixture(scope='session')
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that fills a folder once for all pytest-xdist workers: ``make_once('photos', draw)``."""
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / 'shared' / name, base / 'shared' / f'{name}.done'
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f'{folder}.lock'):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope='session')
def raw(make_once: Callable[..., Path]) -> Path:
    """Raw photos: five classes of eleven drawn flowers, 48 pixels wide."""
    from custom_modules.datasets.demo_flowers import draw_demo_flowers

    return make_once('photos', lambda folder: draw_demo_flowers(folder / 'raw', per_class=11, size=48)) / 'raw'


@pytest.fixture(scope='session')
def data(raw: Path, make_once: Callable[..., Path]) -> Path:
    """The prepared dataset made of them: 40 photos to train on, 15 to validate; not to be changed."""
    from custom_modules.datasets.splitting import split_dataset

    return make_once('prepared', lambda folder: split_dataset(raw, folder / 'data')) / 'data'


@pytest.fixture(scope='session')
def drawing_config(data: Path, make_once: Callable[..., Path]) -> Path:
    """A config that inherits flower_mobilenetv2.py, with all its hooks, and trains a narrow one for two epochs."""
    text = TINY_CONFIG.format(base=str(ROOT / 'configs' / 'flower_mobilenetv2.py'), data=str(data))
    return make_once('drawing_config', lambda folder: (folder / 'tiny.py').write_text(text)) / 'tiny.py'


@pytest.fixture(scope='session')
def tiny_config(drawing_config: Path, make_once: Callable[..., Path]) -> Path:
    """The same without the hooks that draw for TensorBoard: what most tests train."""
    text = drawing_config.read_text() + WITHOUT_DRAWING
    return make_once('config', lambda folder: (folder / 'tiny.py').write_text(text)) / 'tiny.py'


@pytest.fixture(scope='session')
def trained(drawing_config: Path, run_process: Callable[..., Result], make_once: Callable[..., Path]) -> Trained:
    """The tiny config with all hooks, trained by tools/train.py in a process of its own."""

    def train(folder: Path) -> None:
        result = run_process('train', drawing_config, '--work-dir', folder / 'work_dir', cwd=folder)
        assert result.code == 0, result.err
        (folder / 'result.json').write_text(json.dumps(asdict(result)))

    folder = make_once('run', train)
    return Trained(folder / 'work_dir', Result(**json.loads((folder / 'result.json').read_text())))


@pytest.fixture
def best(trained: Trained) -> Path:
    """The tiny training's best.pth."""
    return trained.work_dir / 'best.pth'


@pytest.fixture(scope='session')
def exported(trained: Trained, data: Path, run_process: Callable[..., Result], make_once: Callable[..., Path]) -> Path:
    """The tiny training's best.pth as an .onnx; skips where the packages of an export are missing."""
    pytest.importorskip('onnxscript')

    def export(folder: Path) -> None:
        arguments = [trained.work_dir / 'best.pth', '--out', folder / 'best.onnx', '--data-root', data]
        result = run_process('export_onnx', *arguments, cwd=folder)
        assert result.code == 0, result

    return make_once('onnx', export) / 'best.onnx'


@pytest.fixture(scope='session')
def random_weights(make_once: Callable[..., Path]) -> Path:
    """A weights file as tools/fetch_weights.py writes them, of a MobileNetV2 that was never trained."""
    import torch

    from custom_modules.models.pretrained_weights import build_backbone

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        backbone = build_backbone('mobilenet_v2')
        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # one batch gives all of the statistics that fit the weights
        backbone.train()
        with torch.no_grad():
            backbone(torch.randn(8, 3, 96, 96))
        state = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
        meta = {'model': 'mobilenet_v2', 'note': ''}
        torch.save({'state_dict': state, 'meta': meta}, folder / 'mobilenet_v2.pth')

    return make_once('weights', write) / 'mobilenet_v2.pth'


@pytest.fixture
def give_temperature() -> Callable[[Path, float], None]:
    """A function that writes a useful temperature into a metrics.json: few photos seldom give one."""

    def give(metrics: Path, temperature: float) -> None:
        results = json.loads(metrics.read_text())
        scaling = results['temperature_scaling']
        scaling.update(temperature=temperature, after={**scaling['after'], 'nll': scaling['before']['nll'] / 2})
        metrics.write_text(json.dumps(results))

    return give
