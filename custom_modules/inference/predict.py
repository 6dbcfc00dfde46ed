"""Classifies image files: as lines on the terminal, as a table, or sorted into folders."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.files import check_folder, printable, write_atomically
from custom_modules.inference.journal import Process, predict_resumably
from custom_modules.inference.predictor import WORKERS, open_predictor
from custom_modules.inference.sorting import check_names, check_target, sort_photos
from custom_modules.metrics.predictions import Prediction, columns, row, write_rows
from custom_modules.photos.image_files import Unreadable
from custom_modules.photos.listing import list_photos
from custom_modules.progress import progress_bar

UNSURE = 'unsure'  # the class of images with a low score
Outcome = Prediction | Unreadable


def check_min_score(min_score: float, classes: Sequence[str]) -> None:
    """Raises an :class:`InputError` if predictions below ``min_score`` could not be told from a class."""
    if min_score and UNSURE in classes:
        raise InputError(f'--min-score {min_score:g}: a class is called {UNSURE!r} itself. Give --min-score 0.')


def name_of(prediction: Prediction, classes: Sequence[str], min_score: float) -> str:
    """The predicted class, or ``unsure`` if its score is lower than ``min_score``."""
    return classes[prediction.label] if prediction.scores[prediction.label] >= min_score else UNSURE


def summarize(outcomes: Iterable[Outcome], classes: Sequence[str], min_score: float) -> str:
    """How many images were classified as what, and how many could not be read."""
    counts = Counter(
        name_of(outcome, classes, min_score) if isinstance(outcome, Prediction) else None for outcome in outcomes
    )
    bad = counts.pop(None, 0)
    named = ', '.join(f'{name} {counts[name]}' for name in (*classes, UNSURE) if name in counts)
    return f'{counts.total()} photos: {named or "none"}{f"; {bad} unreadable" if bad else ""}'


def predict_files(
    inputs: Sequence[str],
    checkpoint: str,
    config: str | None = None,
    out: Path | None = None,
    top_k: int = 3,
    sort_into: Path | None = None,
    mode: str = 'copy',
    min_score: float = 0.0,
    batch_size: int = 32,
    workers: int = WORKERS,
    launcher: str = 'none',
) -> int:
    """Classifies images by the arguments of ``tools/predict.py``; returns 1 if an image could not be read, else 0."""
    _check_outputs(out, sort_into)
    paths, others = list_photos(inputs, (os.fsdecode(line) for line in sys.stdin.buffer) if '-' in inputs else ())
    process = _join(launcher) if launcher != 'none' else Process()
    predictor = open_predictor(checkpoint, config)
    classes = predictor.classes
    check_min_score(min_score, classes)
    if sort_into:
        check_names(classes)
    journal = out.with_name(f'.{out.name}.part') if out else None
    if journal:
        with progress_bar() as bar:
            outcomes = list(predict_resumably(journal, predictor, paths, batch_size, workers, bar, process).values())
        if process.rank:
            return 0
    else:
        outcomes = list(_printed(predictor.predict(paths, batch_size, workers), classes, top_k))
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    if sort_into:
        sort_photos(sort_into, ((one.path, name_of(one, classes, min_score)) for one in predictions), mode)
    if out and journal:  # last: once the table exists, the journal is of no use
        table, fields = (row(one, classes) for one in predictions), columns(classes, False)
        write_atomically(out, lambda file: write_rows(file, table, fields, out.suffix))
        shutil.rmtree(journal)
    return _report(outcomes, summarize(outcomes, classes, min_score), others, out, sort_into)


def _check_outputs(out: Path | None, sort_into: Path | None) -> None:
    if out:
        check_folder(out.parent)
        if os.path.lexists(out):
            raise InputError(f'--out {out}: exists already. Name another file, or delete it.')
    if sort_into:
        check_target(sort_into)
        if out and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(sort_into)):
            raise InputError(f'--out {out}: lies in --sort-into {sort_into}. Name it elsewhere.')


def _join(launcher: str) -> Process:
    """Joins the processes of the launcher; returns which of them this is."""
    from mmengine.config import Config
    from mmengine.dist import barrier, get_dist_info

    from custom_modules.engine.runner import set_up_device  # imports torch, which an exported model does not need

    patience = {'backend': 'nccl', 'timeout': 86400}  # seconds, for the slowest process
    set_up_device(Config({'env_cfg': {'mp_cfg': {}, 'dist_cfg': patience}}), launcher)
    rank, processes = get_dist_info()
    return Process(rank, processes, barrier)


def _printed(outcomes: Iterable[Outcome], classes: Sequence[str], top_k: int) -> Iterator[Outcome]:
    """Prints each prediction as it comes: the ``top_k`` classes, the best first, and their scores."""
    for outcome in outcomes:
        if isinstance(outcome, Prediction):
            best = sorted(range(len(classes)), key=lambda label: -outcome.scores[label])[:top_k]
            scores = (f'{classes[label]} {outcome.scores[label]:.4f}' for label in best)
            print('  '.join([printable(outcome.path), *scores]))
        yield outcome


def _report(
    outcomes: Iterable[Outcome], summary: str, others: Sequence[str], out: Path | None, sort_into: Path | None
) -> int:
    stream = sys.stdout if out else sys.stderr
    print(summary, file=stream)
    for other in others:
        print(f'left out    {printable(other)}: not an image', file=stream)
    if out:
        print(f'written     {out}', file=stream)
    if sort_into:
        print(f'sorted into {sort_into}', file=stream)
    unreadable = [outcome for outcome in outcomes if isinstance(outcome, Unreadable)]
    for photo in unreadable:
        print(f'error: {printable(photo.path)}: {photo.problem}', file=sys.stderr)
    return 1 if unreadable else 0
