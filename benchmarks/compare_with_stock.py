"""Compares speed with stock MMPretrain: training step, inference and loader.

    python benchmarks/compare_with_stock.py configs/flower_mobilenetv2.py --batch-size 32

Stock is the same config under MMEngine's Runner, with upstream's transforms and default memory settings and layout.
Stock and ours take turns, each in a process of its own: the memory allocator's settings apply to a whole process.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from custom_modules.errors import InputError, run_tool
from custom_modules.files import check_folder, write_atomically

PARTS = ('training', 'inference', 'loader')
BATCHES = (1, 32)  # of inference
IMAGES = 64  # of a sample of prediction from files

Work = tuple[Callable[[], Any], int]  # what is timed, and how many images it processes

prepared: dict[str, Work] = {}  # of this process: see prepare


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to measure, how often, and where the samples go."""
    parser = argparse.ArgumentParser(description='Compare the speed of a config with stock MMPretrain.')
    parser.add_argument('config', help='e.g. configs/flower_mobilenetv2.py')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, help='some of the parts')
    parser.add_argument('--batch-size', type=int, metavar='N', help="of training and loader (default: the config's)")
    parser.add_argument('--threads', type=int, metavar='N', help="of each process (default: torch's choice)")
    parser.add_argument('--rounds', type=int, default=7, metavar='N', help='samples of each speed (default: 7)')
    parser.add_argument('--seconds', type=float, default=3.0, metavar='S', help='length of a sample (default: 3)')
    parser.add_argument('--data-root', metavar='DIR', help="the prepared dataset (default: the config's)")
    parser.add_argument('--json', metavar='FILE', help='write every sample, the machine and the versions')
    args = parser.parse_args(argv)
    for name in ('batch_size', 'threads', 'rounds'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: must be 1 or more')
    return args


def main(argv: list[str] | None = None) -> int:
    """Measures part after part and prints the table."""
    args = parse_args(argv)
    if args.json:
        check_folder(Path(args.json).parent)
    if args.threads:
        os.environ['OMP_NUM_THREADS'] = str(args.threads)  # for the processes of both sides
    samples: dict[str, dict[str, list[float]]] = {}
    for part in args.only:
        samples |= take_turns(part, args)
    print(as_table(samples))
    if args.json:
        command = shlex.join(['python', *(sys.argv if argv is None else [__file__, *argv])])
        date = datetime.now().astimezone().isoformat(timespec='seconds')
        about = {'command': command, 'date': date, 'threads': args.threads, 'environment': describe_environment()}
        results = {**about, 'images_per_second': samples}
        text = json.dumps(results, indent=2, ensure_ascii=False, default=str) + '\n'
        write_atomically(Path(args.json), lambda file: file.write(text.encode()))
        print(f'written     {args.json}')
    return 0


def describe_environment() -> dict[str, str]:
    """Versions and devices as MMEngine collects them, and the processor."""
    import torch
    from mmengine.utils.dl_utils import collect_env

    return {**collect_env(), 'processor': torch.backends.cpu.get_cpu_capability(), 'cores': str(os.cpu_count())}


def take_turns(part: str, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Measures one part in two new processes that take turns: images/s by measurement and side, one per round."""
    samples: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context('spawn')))
            for side in ('stock', 'ours')
        }
        names = {side: process.submit(prepare, part, side, args) for side, process in sides.items()}
        for side, future in names.items():
            for name in future.result():
                samples.setdefault(name, {})[side] = []
        for name, found in samples.items():
            for turn in range(args.rounds + 1):  # the first one warms up
                for side, process in sides.items():
                    speed = process.submit(measure, name, args.seconds if turn else 0.0).result()
                    found[side] += [speed] if turn else []
            print(f'{name}: {len(found["ours"])} samples', file=sys.stderr)
    return samples


def prepare(part: str, side: str, args: argparse.Namespace) -> list[str]:
    """Builds everything that one side measures for a part, in its process; returns the names of the measurements."""
    from mmengine.registry import init_default_scope

    from custom_modules.engine.run_config import LOADERS, read_config

    with tempfile.TemporaryDirectory() as folder:
        cfg = read_config(args.config, {}, args.data_root, folder)
        cfg.log_level = 'WARNING'
        init_default_scope('mmpretrain')
        if args.batch_size:
            cfg.train_dataloader.batch_size = args.batch_size
        for name in LOADERS:
            if cfg.get(name) is None:
                raise InputError(f'{args.config}: has no {name}. Add one, for the comparison also tests.')
            cfg[name].update(num_workers=0, persistent_workers=False)  # loading is measured per core
            if side == 'stock':
                dataset = cfg[name].dataset
                folders = {'data_root': dataset.data_root, 'data_prefix': dataset.data_prefix}
                cfg[name].dataset = {'type': 'CustomDataset', **folders, 'pipeline': dataset.pipeline}
        build = {'training': training, 'inference': inference, 'loader': loader}[part]
        prepared.update(build(side, cfg, folder))
    return list(prepared)


def measure(name: str, seconds: float) -> float:
    """One sample of a prepared measurement, in images/s."""
    import torch
    from torch.utils.benchmark import Timer

    work, images = prepared[name]
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads())
    return images / timer.blocked_autorange(min_run_time=seconds).median


def training(side: str, cfg: Any, folder: str) -> dict[str, Work]:
    """One training step: preprocessing, forward and backward pass, optimizer; always on the same batch."""
    from mmengine.runner import Runner

    from custom_modules.engine.runner import PreparedRunner, set_up_device

    for loop in ('val', 'test'):
        cfg[f'{loop}_cfg'] = cfg[f'{loop}_dataloader'] = cfg[f'{loop}_evaluator'] = None
    cfg.custom_hooks = []
    if side == 'ours':
        set_up_device(cfg, 'none')
    runner = (PreparedRunner if side == 'ours' else Runner).from_cfg(cfg)
    batch = next(iter(runner.train_dataloader))
    optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
    size = len(batch['inputs'])
    return {f'training step, batch {size}': (partial(runner.model.train().train_step, batch, optimizer), size)}


def inference(side: str, cfg: Any, folder: str) -> dict[str, Work]:
    """The model alone on random pixels; and prediction from image files, by upstream's inferencer or our Predictor."""
    import torch
    from mmengine.runner import Runner
    from mmpretrain import ImageClassificationInferencer
    from mmpretrain.registry import MODELS

    from custom_modules.engine.run_config import model_settings
    from custom_modules.inference.predictor import open_predictor

    dataset = Runner.build_dataloader(cfg.test_dataloader).dataset
    classes = list(dataset.metainfo['classes'])
    paths = [dataset.get_data_info(number % len(dataset))['img_path'] for number in range(IMAGES)]
    model: Any = MODELS.build(model_settings(cfg)).eval()
    if side == 'ours':
        file = str(Path(folder) / 'random.pth')  # speed does not depend on what the weights were trained for
        torch.save({'state_dict': model.state_dict(), 'meta': {'classes': classes}}, file)
        predictor: Any = open_predictor(file, cfg.filename)
        model, predict = predictor.model, partial(predictor.predict, paths, workers=0)
    else:
        model._config = cfg
        predict = partial(ImageClassificationInferencer(model, pretrained=False, classes=classes), paths)

    @torch.inference_mode()
    def logits(pixels: torch.Tensor) -> torch.Tensor:
        return model(model.data_preprocessor({'inputs': pixels}, False)['inputs'], mode='tensor').cpu()

    found: dict[str, Work] = {}
    shape = dataset[0]['inputs'].shape
    for batch in BATCHES:
        pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8)
        found[f'inference, batch {batch}, model alone'] = partial(logits, pixels), batch
        read = partial(consume, partial(predict, batch_size=batch))
        found[f'inference, batch {batch}, from files'] = read, IMAGES
    return found


def loader(side: str, cfg: Any, folder: str) -> dict[str, Work]:
    """One pass over the training images in this process: read, decoded, augmented and collated."""
    from mmengine.runner import Runner

    from custom_modules.engine.hooks.seed_hook import SeededPhotos

    built = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    if side == 'ours':
        built.dataset.__getitems__ = SeededPhotos(built.dataset)  # as SeedHook does
    return {'loader, one process': (partial(consume, partial(iter, built)), len(built.sampler))}


def consume(give: Callable[[], Any]) -> None:
    """Takes everything from what ``give`` returns, and keeps nothing."""
    deque(give(), maxlen=0)


def as_table(samples: dict[str, dict[str, list[float]]]) -> str:
    """Median and range of images/s of both sides, and of their ratio round by round, as Markdown."""
    rows = ['| what | stock, images/s | ours, images/s | ratio |', '|---|---|---|---|']
    for name, found in samples.items():
        ratios = [ours / stock for stock, ours in zip(found['stock'], found['ours'], strict=True)]
        rows.append(f'| {name} | {" | ".join(map(median_and_range, (found["stock"], found["ours"], ratios)))} |')
    return '\n'.join(rows)


def median_and_range(values: Sequence[float]) -> str:
    """E.g. ``28.5 (26.9–30.6)``, in three digits."""
    figures = median(values), min(values), max(values)
    middle, low, high = (f'{value:.0f}' if value >= 100 else f'{value:.3g}' for value in figures)
    return f'{middle} ({low}–{high})'


if __name__ == '__main__':
    sys.exit(run_tool(main))
