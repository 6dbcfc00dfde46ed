"""What the machine could do: its rate of matrix multiplication, and the operations that a photo takes in a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.sides import environment_of, open_sides
from custom_modules.benchmarks.training import Tell

SIZES = {'cpu': (512, 1024, 2048), 'cuda': (2048, 4096, 8192)}
SECONDS = 0.5  # of one sample


def measure_limits(
    tasks: Mapping[str, Mapping[str, Any]], folder: Path, device: str, threads: int, rounds: int, tell: Tell
) -> dict[str, Any]:
    """Multiplies matrices of several sizes and types, and counts the operations of models.

    Args:
        tasks: ``config``, ``options``, ``data_root``, ``size`` of each model, by name.
        folder: Where the log goes.
        device: ``'cpu'`` or ``'cuda'``.
        threads: Of the process.
        rounds: Samples of each size; the best counts, for it is a limit.
        tell: Shows progress.

    Returns:
        ``flops``: operations per second by type, ``samples`` of each size; ``models``: of each by name the
        operations that a photo of the training's ``size`` takes ``forward`` and ``both`` (forward and backward), those
        of a photo of the test's size, ``inference``, and ``gradient_bytes``.
    """
    samples: dict[str, dict[str, list[float]]] = {}
    with open_sides(('limits', {'threads': threads}, folder / 'limits', environment_of(device, threads))) as (side,):
        kinds = side.receive()['kinds']
        for kind in kinds:
            samples[kind] = {
                str(size): [side.ask(kind=kind, size=size, device=device)['flops'] for _ in range(rounds)]
                for size in SIZES[device]
            }
        flops = {kind: max(max(found) for found in by_size.values()) for kind, by_size in samples.items()}
        tell(', '.join(f'{kind} {rate / 1e9:.0f} GFLOP/s' for kind, rate in flops.items()))
        models = {name: side.ask(task=dict(task)) for name, task in tasks.items()}
    return {'flops': flops, 'samples': samples, 'models': models}


def compute_in_turns(channel: Any, task: dict[str, Any]) -> None:
    """Multiplies and counts, as it is told."""
    import torch

    torch.set_num_threads(task['threads'])
    # TF32 is what convolutions use on a GPU unless told otherwise; it is a type of its own in the table.
    # Nothing here computes in bfloat16 on a CPU; where one has no instructions for it, a product takes minutes.
    channel.send(kinds=['float32', *(['tf32', 'bfloat16'] if torch.cuda.is_available() else [])])
    while True:
        request = channel.receive()
        if 'task' in request:
            channel.send(**count_operations({**request['task'], 'folder': task['folder']}))
        else:
            channel.send(flops=multiply(request['kind'], request['size'], request['device']))


def multiply(kind: str, size: int, device: str) -> float:
    """Operations per second of multiplying two matrices of ``size`` x ``size``."""
    import torch

    from custom_modules.benchmarks.turns_hook import now

    torch.backends.cuda.matmul.allow_tf32 = kind == 'tf32'
    dtype = torch.bfloat16 if kind == 'bfloat16' else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.mm(one, other)
    times, began = 0, now()
    while now() - began < SECONDS:
        for _ in range(10 if device == 'cuda' else 1):
            torch.mm(one, other, out=out)
            times += 1
    return times * 2 * size**3 / (now() - began)


def count_operations(task: dict[str, Any]) -> dict[str, Any]:
    """Floating-point operations of the convolutions and matrix multiplications that a photo takes.

    By torch's counter, which is kept up, rather than mmengine's ``get_model_complexity_info``. The backward pass is
    taken as twice the forward one, for the gradients of inputs and of weights: torch's own count of it takes a
    depthwise convolution for a full one. It is not known (None) where stages are frozen.
    """
    import torch
    from mmpretrain.registry import MODELS
    from torch.utils.flop_counter import FlopCounterMode

    from custom_modules.benchmarks.measured_config import image_size, measured_config
    from custom_modules.engine.run_config import model_settings

    cfg = measured_config({**task, 'side': 'stock'})
    model = MODELS.build(model_settings(cfg))

    def count_forward(size: int) -> float:
        photos = torch.randn(2, 3, size, size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(photos, mode='tensor')
        return counter.get_total_flops() / len(photos)

    size, tested = (image_size(cfg[f'{side}_dataloader'].dataset.pipeline) for side in ('train', 'test'))
    forward = count_forward(size)
    inference = count_forward(tested)
    model.train()  # freezes what the config freezes
    trained = [each for each in model.parameters() if each.requires_grad]
    return {
        'size': size,
        'forward': forward,
        'inference': inference,
        'both': 3 * forward if len(trained) == len(list(model.parameters())) else None,
        'gradient_bytes': sum(each.numel() * each.element_size() for each in trained),
    }
