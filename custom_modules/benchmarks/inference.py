"""Inference photos/s: the model as upstream builds it, as this project predicts with it, and exported, in turns."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_modules.benchmarks.sides import Side, environment_of, open_sides
from custom_modules.benchmarks.summaries import SIDES
from custom_modules.benchmarks.training import Tell

EXPORTED = 'onnx', 'int8'  # measured where the packages of an export are installed
CALIBRATION = 8  # photos that the 8 bits are calibrated on; how many does not change their speed


def measure_inference(
    task: Mapping[str, Any],
    folder: Path,
    batches: tuple[int, ...],
    rounds: int,
    seconds: float,
    tell: Tell,
) -> dict[str, Any]:
    """Has all sides predict in turns: the model alone, and through ``Predictor`` with reading the photos.

    Args:
        task: ``config``, ``options``, ``data_root``, ``size``, ``photos`` (how many the predictor gets), ``device``,
            ``threads``.
        folder: Where the sides' logs go.
        batches: Batch sizes.
        rounds: Samples of each.
        seconds: How long a sample of the model alone takes.
        tell: Shows progress.

    Returns:
        ``rows``: for each batch size and ``what`` the photos/s of each side, a sample a round: ``stock``, ``ours``,
        and on a CPU with the packages of an export ``onnx`` and ``int8``; ``peak_bytes`` of each side; and, on a CPU
        with several threads, ``split``: photos/s of one process with all threads and of as many processes with one
        thread each, in all.
    """
    exports = task['device'] == 'cpu' and all(map(find_spec, ('onnx', 'onnxscript', 'onnxruntime')))
    names = (*SIDES, *EXPORTED) if exports else SIDES
    tasks = [('inference', {**task, 'side': side}) for side in names]
    environment = environment_of(task['device'], task['threads'])
    rows = []
    with open_sides(*((*each, folder / each[1]['side'], environment) for each in tasks)) as sides:
        named = dict(zip(names, sides, strict=True))
        about = {name: side.receive() for name, side in named.items()}
        for batch in batches:
            for what in ('model', 'predictor'):
                found: dict[str, list[float]] = {name: [] for name in named}
                for turn in range(rounds + 1):  # the first warms up
                    for name, side in named.items():
                        rate = side.ask(what=what, batch=batch, seconds=seconds if turn else 0.0)['photos_per_s']
                        found[name] += [rate] if turn else []
                shown = ', '.join(f'{name} {rates[-1]:.1f}' for name, rates in found.items())
                tell(f'{what}, batch {batch}: {shown} photos/s')
                rows.append({'what': what, 'batch': batch, 'photos_per_s': found})
        peaks = {name: side.peak_bytes for name, side in named.items()}
    result = {'rows': rows, 'peak_bytes': peaks, 'sides': about}
    if task['device'] == 'cpu' and task['threads'] > 1:
        result['split'] = measure_split(task, folder, max(batches), rounds, seconds, tell)
    return result


def measure_split(
    task: Mapping[str, Any], folder: Path, batch: int, rounds: int, seconds: float, tell: Tell
) -> dict[str, Any]:
    """One process with all threads beside as many processes with one thread each, in turns."""
    threads = task['threads']
    ours = {**task, 'side': 'ours'}
    alone = ('inference', ours, folder / 'one_process', environment_of(task['device'], threads))
    many = [
        ('inference', {**ours, 'threads': 1}, folder / f'process_{number}', environment_of(task['device'], 1))
        for number in range(threads)
    ]
    found: dict[str, list[float]] = {'one_process': [], 'many_processes': []}
    with open_sides(alone, *many) as (one, *others):
        for side in (one, *others):
            side.receive()
        for turn in range(rounds + 1):
            for name, group in (('one_process', [one]), ('many_processes', others)):
                rate = together(group, what='model', batch=batch, seconds=seconds if turn else 0.0)
                found[name] += [rate] if turn else []
    tell(f'batch {batch}: one process {found["one_process"][-1]:.1f}, {threads} {found["many_processes"][-1]:.1f}')
    return {'threads': threads, 'batch': batch, **found}


def together(sides: list[Side], **request: Any) -> float:
    """Photos/s of all sides at once."""
    for side in sides:
        side.send(**request)
    return sum(side.receive()['photos_per_s'] for side in sides)


def infer_in_turns(channel: Any, task: dict[str, Any]) -> None:
    """Predicts on one side, in its own process, as it is told."""
    import torch
    from mmengine.runner import Runner
    from mmpretrain.registry import MODELS

    from custom_modules.benchmarks.measured_config import image_size, measured_config
    from custom_modules.benchmarks.turns_hook import memory_format, now
    from custom_modules.engine.run_config import model_settings
    from custom_modules.inference.predictor import Predictor

    torch.set_num_threads(task['threads'])
    cfg = measured_config(task)
    dataset = Runner.build_dataloader({**cfg.val_dataloader, 'num_workers': 0, 'persistent_workers': False}).dataset
    places = [number % len(dataset) for number in range(task['photos'])]
    paths = [dataset.get_data_info(place)['img_path'] for place in places]
    # The speed of weights does not depend on what they were trained for.
    model = MODELS.build(model_settings(cfg)).eval()
    checkpoint = {'state_dict': model.state_dict(), 'meta': {'classes': list(dataset.metainfo['classes'])}}
    predictor: Any = Predictor(cfg, checkpoint, task['config'], task['device'])
    size = image_size(cfg.test_dataloader.dataset.pipeline)
    if task['side'] in EXPORTED:
        predictor, compute = exported(predictor, cfg, paths[:CALIBRATION], task)
        layout = 'ONNX'
    else:
        if task['side'] == 'stock':
            predictor.model = model.to(task['device'])  # contiguous
        compute, layout = in_torch(predictor.model), memory_format(predictor.model)
    channel.send(memory_format=layout, threads=task['threads'])
    while True:
        request = channel.receive()
        batch = request['batch']
        photos, began = 0, now()
        if request['what'] == 'predictor':
            asked = paths if request['seconds'] else paths[:batch]
            photos = sum(1 for _ in predictor.predict(asked, batch_size=batch))
        else:
            pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size), np.uint8)
            began = now()
            while not photos or now() - began < request['seconds']:
                compute(pixels)
                photos += batch
        rate = photos / (now() - began)
        if task['side'] in EXPORTED:
            sleep(0.1)  # its threads spin on for up to 60 ms, which would be taken from the next side
        channel.send(photos_per_s=rate)


def in_torch(model: Any) -> Callable[[NDArray], Any]:
    """What an exported model computes, by the model itself: softmax scores of (N, 3, H, W) uint8 pixels."""
    import torch

    @torch.inference_mode()
    def scores(pixels: NDArray) -> torch.Tensor:
        inputs = model.data_preprocessor({'inputs': torch.from_numpy(pixels)}, False)['inputs']
        return model(inputs, mode='tensor').softmax(1).cpu()

    return scores


def exported(predictor: Any, cfg: Any, photos: list[str], task: Mapping[str, Any]) -> tuple[Any, Callable]:
    """The same as ONNX Runtime computes it, in 8 bits on the side ``'int8'``; and the model alone, spinning."""
    from custom_modules.inference.onnx_export import export, make_metadata, scorer
    from custom_modules.inference.onnx_predictor import OnnxPredictor
    from custom_modules.inference.onnx_quantization import calibration_pixels, quantize

    metadata = make_metadata(predictor, cfg, {}, None, task['config'])
    content = export(predictor, metadata, task['config'])
    if task['side'] == 'int8':
        content = quantize(content, calibration_pixels(photos, metadata.preprocessing), metadata)
    file = Path(task['folder']) / 'model.onnx'
    file.write_bytes(content)
    return OnnxPredictor(file), scorer(content, task['config'], spin=True)
