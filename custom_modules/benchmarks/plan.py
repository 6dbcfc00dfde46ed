"""What is to be measured, checked before anything starts; then part after part. How each is measured is its room's."""

import math
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from custom_modules.benchmarks.training import Tell
from custom_modules.engine.seeds import seed_problems
from custom_modules.errors import InputError
from custom_modules.files import check_folder

STARTS = 3  # samples of the time to a first iteration
PARTS = ('limits', 'loader', 'training', 'inference', 'startup', 'time-to')


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, and on what.

    Args:
        configs: The trainings.
        out: Folder for results, logs and work dirs; must not exist.
        parts: Of :data:`PARTS`.
        sizes: Image sizes, in pixels; none for each config's own.
        time_to_configs: Those whose time to a score is measured; none for ``configs``.
        levels: Validation top-1, in percent, whose times are wanted.
        seeds: Of the runs to these.
        to_end: Whether these runs go on after the highest level.
        rounds: Samples of each speed; blocks of a training.
        iterations: Training steps of a block.
        warm_up: Training steps before the first block.
        batch_size: Of the training; None for each config's own.
        workers: Processes that load while the training is measured.
        photos: How many photos a sample of loading or of the predictor takes.
        seconds: How long a sample of inference takes.
        batches: Batch sizes of inference.
        device: ``'cpu'``, ``'cuda'`` or None for what MMEngine chooses.
        threads: Of a computing process; None for torch's choice.
        data_root: The prepared dataset; None for each config's own.
        options: ``KEY=VALUE`` for all configs.
    """

    configs: Sequence[str]
    out: Path
    parts: Sequence[str] = PARTS
    sizes: Sequence[int] = ()
    time_to_configs: Sequence[str] = ()
    levels: Sequence[float] = (90.0, 93.0, 95.0)
    seeds: Sequence[int] = (0,)
    to_end: bool = False
    rounds: int = 7
    iterations: int = 7
    warm_up: int = 4
    batch_size: int | None = None
    workers: int = 0
    photos: int = 512
    seconds: float = 3.0
    batches: Sequence[int] = (1, 32)
    device: str | None = None
    threads: int | None = None
    data_root: str | None = None
    options: Sequence[str] = field(default_factory=list)


def check_plan(plan: Plan) -> tuple[str, int]:
    """Finds what would end the measurement late.

    Returns:
        The device and the number of threads.

    Raises:
        InputError: All problems at once.
    """
    problems = []
    if plan.out.exists():
        problems.append(f'{plan.out}: exists already; name another --out')
    for name in ('rounds', 'iterations', 'warm_up', 'photos', 'seconds', 'batch_size', 'threads'):
        value = getattr(plan, name)
        if value is not None and not 0 < value < math.inf:  # nan is neither
            problems.append(f'--{name.replace("_", "-")} {value:g}: must be more than 0 and finite')
    problems += [f'--workers {plan.workers}: must be 0 or more'] if plan.workers < 0 else []
    problems += [f'--batches {size}: must be 1 or more' for size in plan.batches if size < 1]
    problems += [f'--sizes {size}: must be 32 or more' for size in plan.sizes if size < 32]
    problems += [
        f'--levels {level:g}: must be over 0 and at most 100' for level in plan.levels if not 0 < level <= 100
    ]
    problems += seed_problems(plan.seeds)
    for configs in (plan.configs, plan.time_to_configs):
        names = [short_name(config) for config in configs]
        problems += [f'{each}: two configs of that name' for each in dict.fromkeys(names) if names.count(each) > 1]
    if problems:
        raise InputError(*problems)
    check_folder(plan.out)

    import torch
    from mmengine.device import get_device

    if plan.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: torch finds no CUDA device here')
    chosen = plan.device or get_device()
    if chosen not in ('cpu', 'cuda'):
        raise InputError(f'MMEngine chooses {chosen} here, which cannot be measured; name --device cpu')
    check_configs(plan)
    return chosen, plan.threads or torch.get_num_threads()


def check_configs(plan: Plan) -> None:
    """Finds what is wrong with the configs, their photos and weights, as a training would.

    Raises:
        InputError: All problems at once.
    """
    from custom_modules.benchmarks.measured_config import image_size, measured_config
    from custom_modules.engine.preflight import check_run

    problems: list[str] = []
    for config in dict.fromkeys([*plan.configs, *(plan.time_to_configs if 'time-to' in plan.parts else ())]):
        try:
            with TemporaryDirectory() as folder:
                cfg = measured_config({**task_of(plan, config, None, 'cpu', 1), 'folder': folder, 'side': 'stock'})
                check_run(cfg, ['train', 'val'])
            if plan.sizes and not image_size(cfg.train_dataloader.dataset.pipeline):
                problems.append(f'{config}: its train pipeline has no crop whose size --sizes could set')
        except InputError as error:
            problems += [line if config in line else f'{config}: {line}' for line in error.problems]
    if problems:
        raise InputError(*dict.fromkeys(problems))


def task_of(plan: Plan, config: str, size: int | None, device: str, threads: int) -> dict[str, Any]:
    """What a measuring process needs to know of a config."""
    return {
        'config': config,
        'options': list(plan.options),
        'data_root': plan.data_root,
        'size': size,
        'batch_size': plan.batch_size,
        'workers': plan.workers,
        'photos': plan.photos,
        'device': device,
        'threads': threads,
    }


def measure(plan: Plan, command: Sequence[str], tell: Tell, save: Callable[[dict], None]) -> dict:
    """Measures all parts; one that fails is noted, and the others go on.

    Args:
        plan: What to measure.
        command: What was typed, for the record.
        tell: Shows progress.
        save: Gets what there is after each part, so that nothing is lost.

    Returns:
        All samples, by part: plain data.

    Raises:
        InputError: The plan cannot be carried out.
    """
    from custom_modules.benchmarks.inference import measure_inference
    from custom_modules.benchmarks.limits import measure_limits
    from custom_modules.benchmarks.loader import measure_loader
    from custom_modules.benchmarks.startup import measure_first_iteration, measure_help
    from custom_modules.benchmarks.time_to import measure_time_to
    from custom_modules.benchmarks.training import measure_training

    device, threads = check_plan(plan)
    results: dict[str, Any] = {'command': shlex.join(command), **describe_machine(device, threads)}
    results |= {'rounds': plan.rounds, 'levels': list(plan.levels), 'failed': []}
    sizes: list[int | None] = [*plan.sizes] or [None]
    tasks = {
        short_name(config, size): task_of(plan, config, size, device, threads)
        for config in plan.configs
        for size in sizes
    }
    work = plan.out / 'runs'
    jobs: list[tuple[str, str, Callable[[Tell], Any]]] = []
    if 'limits' in plan.parts:
        limits = partial(measure_limits, tasks, work, device, threads, plan.rounds)
        jobs.append(('limits', 'machine and models', limits))
    for title, task in tasks.items():
        place = work / title.replace(' ', '_')
        blocks = (plan.rounds, plan.iterations, plan.warm_up)
        samples = (tuple(plan.batches), plan.rounds, plan.seconds)
        own = {
            'loader': partial(measure_loader, task, place / 'loader', plan.rounds),
            'training': partial(measure_training, task, place / 'training', *blocks),
            'inference': partial(measure_inference, task, place / 'inference', *samples),
        }
        jobs += [(part, title, job) for part, job in own.items() if part in plan.parts]
    if 'startup' in plan.parts:
        jobs.append(('help', 'of each tool', partial(measure_help, plan.rounds)))
        for config in plan.configs:
            task, place = task_of(plan, config, None, device, threads), work / 'first_iteration' / Path(config).stem
            jobs.append(('first_iteration', short_name(config), partial(measure_first_iteration, task, place, STARTS)))
    if 'time-to' in plan.parts:
        for config in plan.time_to_configs or plan.configs:
            task, place = task_of(plan, config, None, device, threads), work / 'time_to' / Path(config).stem
            wanted = (plan.seeds, plan.levels, plan.to_end)
            jobs.append(('time_to', short_name(config), partial(measure_time_to, task, place, *wanted)))

    with ended_by_sigterm():
        for number, (part, title, job) in enumerate(jobs, start=1):
            began = time.monotonic()
            tell(f'{number} of {len(jobs)}: {part}, {title}')
            try:
                results.setdefault(part, {})[title] = job(lambda line: tell(f'  {line}'))
            except InputError as error:
                results['failed'] += [f'{part}, {title}: {line}' for line in error.problems]
                tell(f'  failed: {"; ".join(error.problems)}')
            if part == 'time_to':
                results['failed'] += [
                    f'{part}, {title}, seed {run["seed"]}: exit code {run["ended"]}; its output: {run["log"]}'
                    for run in results[part].get(title, ())
                    if run['ended'] not in ('reached', 0)
                ]
            tell(f'  took {time.monotonic() - began:.0f} s')
            save(results)
    return results


def short_name(config: str, size: int | None = None) -> str:
    """A config and a size, as tables call them."""
    return Path(config).stem + (f' {size}' if size else '')


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Versions, processor, memory, device and date."""
    import torch

    model = platform.processor()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        names = [line.partition(':')[2].strip() for line in cpuinfo.read_text().splitlines() if 'model name' in line]
        model = names[0] if names else model
    return {
        'date': datetime.now().astimezone().isoformat(timespec='seconds'),
        'machine': {
            'processor': model,
            'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
            'threads': threads,
            'device': torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
            'vector_instructions': torch.backends.cpu.get_cpu_capability(),
            'system': platform.platform(),
        },
        'versions': {
            'python': platform.python_version(),
            **{each: version(each) for each in ('torch', 'torchvision', 'mmpretrain', 'mmengine', 'numpy')},
            'opencv': __import__('cv2').__version__,
        },
    }


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the measurement as Ctrl-C does, with the processes that it has started."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
