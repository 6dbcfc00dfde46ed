"""Loading photos/s: by upstream's transforms, by the config's, and by decode, crop and flip alone, in turns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.sides import environment_of, open_sides
from custom_modules.benchmarks.summaries import SIDES
from custom_modules.benchmarks.training import Tell
from custom_modules.errors import PhotoError


def measure_loader(task: Mapping[str, Any], folder: Path, rounds: int, tell: Tell) -> dict[str, Any]:
    """Loads the same photos in turns by upstream's transforms, by the config's, and by OpenCV alone.

    Args:
        task: ``config``, ``options``, ``data_root``, ``size``, ``batch_size``, ``photos`` (of a sample).
        folder: Where the logs go.
        rounds: Samples of each.
        tell: Shows progress.

    Returns:
        Photos/s, a sample a round: ``stock`` (dataset and collating on one core), ``ours`` (that and seeding),
        ``bare`` (OpenCV's decode, crop, resize and flip); ``stock_workers`` and ``ours_workers`` by DataLoaders with
        the config's ``number_of_workers``; ``photo_bytes``; ``index_bytes`` and ``index_seconds`` of a photo.
    """
    ways = [('stock', 'one core'), ('ours', 'one core'), ('ours', 'bare'), ('stock', 'workers'), ('ours', 'workers')]
    found: dict[str, list[float]] = {way_name(*way): [] for way in ways}
    environment = environment_of('cpu', 1)
    wanted = [('loader', {**task, 'workers': None, 'side': name}, folder / name, environment) for name in SIDES]
    with open_sides(*wanted) as sides:
        both = dict(zip(SIDES, sides, strict=True))
        about = {name: side.receive() for name, side in both.items()}
        for turn in range(rounds + 1):  # the first warms up
            for way in ways:
                rate = both[way[0]].ask(way=way[1])['photos_per_s']
                found[way_name(*way)] += [rate] if turn else []
            if turn:
                shown = ', '.join(f'{name} {rates[-1]:.0f}' for name, rates in found.items())
                tell(f'round {turn} of {rounds}: {shown} photos/s')
    return {**found, **about['ours']}


def way_name(side: str, way: str) -> str:
    """What a way of loading is called in the results."""
    return {'one core': side, 'bare': 'bare'}.get(way, f'{side}_workers')


def load_in_turns(channel: Any, task: dict[str, Any]) -> None:
    """Loads on one side, in its own process, as it is told."""
    import time

    import cv2
    import numpy as np
    from mmengine.runner import Runner
    from torch.utils.data import DataLoader

    from custom_modules.benchmarks.measured_config import measured_config, upstream_pipeline
    from custom_modules.engine.hooks.seed_hook import SeededPhotos

    cv2.setNumThreads(0)  # as MMEngine's Runner sets it
    cfg = measured_config(task)
    settings = cfg.train_dataloader.dataset
    if task['side'] == 'stock':
        settings.pipeline = upstream_pipeline(settings.pipeline)
    index = measure_index(settings)
    built = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    dataset = built.dataset
    # Spread over the classes, each once if there are enough.
    places = [int(i) for i in np.linspace(0, len(dataset) - 1, task['photos']).round()]
    paths = [dataset.get_data_info(place)['img_path'] for place in places]
    crops = [draw_crop(settings.pipeline, path, place) for path, place in zip(paths, places, strict=True)]
    if task['side'] == 'ours':
        dataset.__getitems__ = SeededPhotos(dataset)  # as SeedHook does
    workers = DataLoader(
        dataset,
        batch_size=built.batch_size,
        sampler=places,
        num_workers=built.num_workers,
        collate_fn=built.collate_fn,
        worker_init_fn=built.worker_init_fn,
        pin_memory=built.pin_memory,
        persistent_workers=built.num_workers > 0,  # so that only the first pass, which warms up, starts them
    )
    one_core = DataLoader(dataset, batch_size=built.batch_size, sampler=places, collate_fn=built.collate_fn)
    channel.send(
        **index,
        number_of_workers=built.num_workers,
        photo_bytes=sum(Path(path).stat().st_size for path in paths) / len(paths),
    )
    while True:
        way = channel.receive()['way']
        began = time.perf_counter()
        if way == 'bare':
            for path, crop in zip(paths, crops, strict=True):
                load_bare(path, *crop)
        else:
            for _ in workers if way == 'workers' else one_core:
                pass
        channel.send(photos_per_s=len(places) / (time.perf_counter() - began))


def draw_crop(pipeline: list[dict], path: str, place: int) -> tuple[tuple[int, int, int, int], tuple[int, int], bool]:
    """The crop (top, left, height, width), size (width, height) and flip that a pipeline draws for a photo.

    Where a pipeline has no random resized crop, that of one with upstream's ranges.
    """
    import cv2
    import numpy as np
    from mmpretrain.datasets.transforms import RandomResizedCrop

    from custom_modules.benchmarks.measured_config import image_size
    from custom_modules.engine.hooks.seed_hook import seed_generators

    step: dict = next((step for step in pipeline if 'RandomResizedCrop' in step['type']), {})
    known = {key: value for key, value in step.items() if key in ('crop_ratio_range', 'aspect_ratio_range')}
    crop = RandomResizedCrop(scale=step.get('scale') or image_size(pipeline), **known)
    content = np.fromfile(path, np.uint8)
    photo = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if photo is None:
        raise PhotoError(f'{path}: no readable photo; look for others with: python tools/check_dataset.py DATA')
    seed_generators('photo', 0, 0, place)
    return crop.rand_crop_params(photo), (int(crop.scale[1]), int(crop.scale[0])), place % 2 == 0


def load_bare(path: str, crop: tuple[int, int, int, int], size: tuple[int, int], flip: bool) -> Any:
    """Reads, decodes, crops, resizes and flips a photo with OpenCV, and nothing else; (H, W, 3) uint8 BGR."""
    import cv2
    import numpy as np

    with open(path, 'rb') as file:
        photo: Any = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    top, left, height, width = crop
    photo = cv2.resize(photo[top : top + height, left : left + width], size, interpolation=cv2.INTER_LINEAR)
    return cv2.flip(photo, 1) if flip else photo


def measure_index(settings: Any) -> dict[str, float]:
    """Memory that a dataset keeps for a photo, and the seconds in which it reads a photo's line; no photo is read."""
    import copy
    import time
    import tracemalloc

    from mmpretrain.registry import DATASETS

    tracemalloc.start()
    dataset = DATASETS.build(copy.deepcopy(settings))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    count = len(dataset)
    began = time.perf_counter()
    DATASETS.build(copy.deepcopy(settings))
    seconds = time.perf_counter() - began
    return {'index_bytes': kept / count, 'index_seconds': seconds / count}
