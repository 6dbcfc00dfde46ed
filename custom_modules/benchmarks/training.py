"""Training photos/s: stock MMPretrain beside this project, in turns, from the same weights and on the same batches."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.sides import environment_of, open_sides
from custom_modules.benchmarks.summaries import SIDES, compare_losses

Tell = Callable[[str], None]


def measure_training(
    task: Mapping[str, Any], folder: Path, blocks: int, iterations: int, warm_up: int, tell: Tell
) -> dict[str, Any]:
    """Trains both sides in turns, a block of iterations each.

    Args:
        task: ``config``, ``options``, ``data_root``, ``size``, ``batch_size``, ``workers``, ``device``, ``threads``.
        folder: Where the sides' logs and work dirs go.
        blocks: Timed blocks a side.
        iterations: Of a block.
        warm_up: Iterations before the first block.
        tell: Shows progress.

    Returns:
        For each side ``photos_per_s`` of each block (the step alone), ``loaded_photos_per_s`` (with loading, in the
        same process or in workers), ``step_seconds``, ``warm_up_seconds``, ``peak_bytes`` and what was trained;
        ``losses`` compared.
    """
    settle = 3 * task['workers'] + 1 if task['workers'] else 0  # what workers have read ahead while the side waited
    total = warm_up + blocks * (iterations + settle)
    environment = environment_of(task['device'], task['threads'])
    found: dict[str, Any] = {}
    with open_sides(
        *(('training', {**task, 'side': side, 'iterations': total}, folder / side, environment) for side in SIDES)
    ) as sides:
        both = dict(zip(SIDES, sides, strict=True))
        for name, side in both.items():
            found[name] = side.receive()
        # The same seed gives other weights in another layout: random numbers fill the memory in its order.
        weights = str((folder / 'weights.pth').absolute())
        both['stock'].ask(save=weights)
        both['ours'].ask(load=weights)
        for name, side in both.items():
            tell(f'{name} warms up: {warm_up} iterations')
            began = time.perf_counter()
            reply = side.ask(iterations=warm_up, settle=0)
            found[name] |= {'warm_up_seconds': time.perf_counter() - began, 'losses': reply['losses']}
            found[name] |= {'photos_per_s': [], 'loaded_photos_per_s': [], 'step_seconds': []}
        for block in range(blocks):
            for name, side in both.items():
                reply = side.ask(iterations=iterations, settle=settle)
                one = found[name]
                one['photos_per_s'].append(reply['photos'] / reply['step_seconds'])
                one['loaded_photos_per_s'].append(reply['photos'] / reply['seconds'])
                one['step_seconds'].append(reply['step_seconds'] / iterations)
                one['losses'] += reply['losses']
            rates = ', '.join(f'{name} {found[name]["photos_per_s"][-1]:.1f}' for name in both)
            tell(f'block {block + 1} of {blocks}: {rates} photos/s')
        for name, side in both.items():
            found[name] |= side.ask(facts=True) | {'peak_bytes': side.peak_bytes}
    return {'sides': found, 'losses': compare_losses(found['stock']['losses'], found['ours']['losses'])}


def train_in_turns(channel: Any, task: dict[str, Any]) -> None:
    """Trains one side, in its own process, by its Runner with the config's hooks; pauses between blocks."""
    from mmengine.runner import Runner

    from custom_modules.benchmarks.measured_config import measured_config, train_only
    from custom_modules.benchmarks.turns_hook import TurnsHook
    from custom_modules.engine.runner import TerseRunner

    cfg = measured_config(task)
    train_only(cfg, task['iterations'])
    runner = (TerseRunner if task['side'] == 'ours' else Runner).from_cfg(cfg)
    runner.register_hook(TurnsHook(channel))
    runner.train()
