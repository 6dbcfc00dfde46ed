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
from custom_modules.inference.sorting import UNSURE, check_names, check_target, sort_into
from custom_modules.metrics.predictions import Prediction, columns, row, write_rows
from custom_modules.photos.listing import list_photos
from custom_modules.photos.opening import Unreadable
from custom_modules.progress import progress_bar

Outcome = Prediction | Unreadable


class Summary:
    """Names and counts predictions.

    Args:
        classes: Class names in label order.
        min_score: A prediction with a lower score is ``unsure``; 0 switches that off.

    Attributes:
        unreadable: The images that could not be read.

    Raises:
        InputError: A class is called ``unsure`` itself.
    """

    def __init__(self, classes: Sequence[str], min_score: float = 0.0) -> None:
        if min_score and UNSURE in classes:
            raise InputError(f'--min-score {min_score:g}: a class is called {UNSURE!r} itself. Give --min-score 0.')
        self.classes = classes
        self.min_score = min_score
        self.unreadable: list[Unreadable] = []
        self._counts: Counter[str] = Counter()

    def name(self, prediction: Prediction) -> str:
        """The predicted class, or ``unsure``."""
        sure = prediction.scores[prediction.label] >= self.min_score
        return self.classes[prediction.label] if sure else UNSURE

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome."""
        if isinstance(outcome, Unreadable):
            self.unreadable.append(outcome)
        else:
            self._counts[self.name(outcome)] += 1

    def __str__(self) -> str:
        counts = [f'{name} {self._counts[name]}' for name in (*self.classes, UNSURE) if name in self._counts]
        bad = f'; {len(self.unreadable)} unreadable' if self.unreadable else ''
        return f'{self._counts.total()} photos: {", ".join(counts) or "none"}{bad}'


def predict_files(
    inputs: Sequence[str],
    checkpoint: str,
    config: str | None = None,
    out: Path | None = None,
    top_k: int = 3,
    sort_folder: Path | None = None,
    mode: str = 'copy',
    min_score: float = 0.0,
    batch_size: int = 32,
    workers: int = WORKERS,
    launcher: str = 'none',
) -> int:
    """Classifies images, and prints or writes the predictions; the arguments are those of ``tools/predict.py``.

    Returns:
        The exit code: 1 if an image could not be read, else 0.

    Raises:
        InputError: The arguments, the images or the model cannot be used.
    """
    _check_outputs(out, sort_folder)
    paths = list_photos(inputs, (os.fsdecode(line) for line in sys.stdin.buffer) if '-' in inputs else ())
    process = _join(launcher) if launcher != 'none' else Process()
    predictor = open_predictor(checkpoint, config)
    summary = Summary(predictor.classes, min_score)
    if sort_folder:
        check_names(predictor.classes)

    journal = out.with_name(f'.{out.name}.part') if out else None
    if journal:
        with progress_bar() as bar:
            outcomes = list(predict_resumably(journal, predictor, paths, batch_size, workers, bar, process).values())
        if process.rank:
            return 0
    else:
        outcomes = list(_printed(predictor.predict(paths, batch_size, workers), predictor.classes, top_k))
    for outcome in outcomes:
        summary.add(outcome)
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    if sort_folder:
        sort_into(sort_folder, ((one.path, summary.name(one)) for one in predictions), mode)
    if out and journal:  # last: once the table exists, the journal is of no use
        table, fields = (row(one, predictor.classes) for one in predictions), columns(predictor.classes, False)
        write_atomically(out, lambda file: write_rows(file, table, fields, out.suffix))
        shutil.rmtree(journal)
    _report(summary, out, sort_folder)
    return 1 if summary.unreadable else 0


def _check_outputs(out: Path | None, sort_folder: Path | None) -> None:
    if out:
        check_folder(out.parent)
        if os.path.lexists(out):
            raise InputError(f'--out {out}: exists already. Name another file, or delete it.')
    if sort_folder:
        check_target(sort_folder)
        if out and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(sort_folder)):
            raise InputError(f'--out {out}: lies in --sort-into {sort_folder}. Name it elsewhere.')


def _join(launcher: str) -> Process:
    """Joins the processes of the launcher; returns which of them this is."""
    from mmengine.config import Config
    from mmengine.dist import barrier, get_dist_info

    from custom_modules.engine.runner import place  # imports torch, which an exported model does not need

    patience = {'backend': 'nccl', 'timeout': 86400}  # seconds, for the slowest process
    place(Config({'env_cfg': {'mp_cfg': {}, 'dist_cfg': patience}}), launcher)
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


def _report(summary: Summary, out: Path | None, sort_folder: Path | None) -> None:
    stream = sys.stdout if out else sys.stderr
    print(summary, file=stream)
    if out:
        print(f'written     {out}', file=stream)
    if sort_folder:
        print(f'sorted into {sort_folder}', file=stream)
    for photo in summary.unreadable:
        print(f'error: {printable(photo.path)}: {photo.problem}', file=sys.stderr)
