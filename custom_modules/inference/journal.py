"""A journal of predictions, so that a killed run continues when started again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from custom_modules.errors import InputError, said_by
from custom_modules.files import lock_folder
from custom_modules.inference.predictor import Predictor
from custom_modules.metrics.predictions import Prediction
from custom_modules.photos.image_files import Unreadable
from custom_modules.progress import Progress


class Process(NamedTuple):
    """One of the processes that share the images: its number, their count, and how it waits for the others."""

    rank: int = 0
    processes: int = 1
    barrier: Callable[[], object] = lambda: None


def predict_resumably(
    folder: Path,
    predictor: Predictor,
    paths: Sequence[str],
    batch_size: int,
    workers: int,
    progress: Progress | None = None,
    process: Process = Process(),  # noqa: B008  immutable
) -> dict[str, Prediction | Unreadable]:
    """Classifies the images whose outcomes are not in the journal yet: ``folder``, with JSON lines of each process.

    Returns:
        The outcomes of all images, by path; empty in all processes but the first.

    Raises:
        InputError: The journal is of another model or corrupt, or another run is writing it.
    """
    rank, processes, barrier = process
    lock = None if rank else lock_folder(folder)
    barrier()
    known = _read(folder, predictor.digest)
    barrier()  # nobody writes before everybody has read
    left = [path for path in paths if path not in known]
    before = len(paths) - len(left)
    if before and not rank:
        print(f'going on after {before} of {len(paths)} photos')
    with (folder / f'{rank}.jsonl').open('ab+', buffering=0) as file:
        file.seek(0)
        file.truncate(file.read().rfind(b'\n') + 1)  # a line that a kill has cut
        for done, outcome in enumerate(predictor.predict(left[rank::processes], batch_size, workers), before + 1):
            file.write(json.dumps({'model': predictor.digest, **outcome._asdict()}).encode() + b'\n')
            if progress:
                progress('classifying', done, len(paths))
    barrier()
    outcomes = {} if rank else _read(folder, predictor.digest)
    if lock:
        lock.close()
    return {path: outcomes[path] for path in paths if outcomes}


def _read(folder: Path, digest: str) -> dict[str, Prediction | Unreadable]:
    outcomes = {}
    for file in folder.glob('*.jsonl'):
        for line in file.read_bytes().split(b'\n')[:-1]:  # the last one is empty, or cut by a kill
            try:
                fields = json.loads(line)
                model = fields.pop('model')
                outcome = Unreadable(**fields) if 'problem' in fields else Prediction(**fields)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise InputError(f'{file}: corrupt ({said_by(error)}). Delete the folder {folder}.') from error
            if model != digest:
                raise InputError(
                    f'{folder}: holds the beginning of a prediction with another model. Finish that one, delete the '
                    'folder, or name another --out.'
                )
            outcomes[outcome.path] = outcome
    return outcomes
