"""Reads a finished training from its work dir: settings, curves, and the predictions of its test."""

import csv
import json
import statistics
from pathlib import Path

from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import TrainedRun
from custom_modules.evaluation.training_log import read_history, read_scalars
from custom_modules.files import printable
from custom_modules.models.model_file import ModelFile, open_model_file
from custom_modules.models.saved_config import section

# Settings in which two runs of one recipe may differ; resumed ones in load_from, too.
PLACES = ('work_dir', 'randomness', 'resume', 'launcher', 'pretrained')


def read_trained_run(work_dir: Path) -> TrainedRun:
    """Reads a work dir; one without a readable best.pth is an InputError."""
    best = work_dir / 'best.pth'
    if not best.is_file():
        raise InputError(f'{work_dir}: no run (no best.pth). Give the work dir of a training.')
    model = open_model_file(best)
    meta, settings, history = model.meta, model.settings, read_history(work_dir)
    places = (*PLACES, 'load_from') if settings.get('resume') else PLACES
    answers = read_answers(work_dir / 'report', model)
    seconds = [record['seconds'] for record in history]
    optimizer = section(section(settings, 'optim_wrapper'), 'optimizer')
    backbone, training = section(section(settings, 'model'), 'backbone'), section(settings, 'train_cfg')
    batch, processes = section(settings, 'train_dataloader').get('batch_size'), meta.get('processes') or 1
    batches = f'{batch} × {processes}' if processes > 1 else batch
    recipe = (
        f'{optimizer.get("type")} lr {optimizer.get("lr")}, batch {batches}, max_epochs {training.get("max_epochs")}'
    )
    time = iteration_seconds(work_dir)
    return TrainedRun(
        name=printable(work_dir.as_posix()).removeprefix('work_dirs/'),
        model=f'{backbone.get("type", "?")}{backbone.get("depth", "")}',
        recipe='linear probe' if training.get('type') == 'LinearProbeLoop' else recipe,
        settings=json.dumps({k: v for k, v in settings.items() if k not in places}, sort_keys=True, default=str),
        seed=meta.get('seed'),
        best=meta.get('value') if meta.get('metric') == 'accuracy/top1' else None,
        best_epoch=meta.get('epoch'),
        last=history[-1]['val_accuracy'] if history else None,
        epochs=len(history),
        photos=meta.get('photos') or len(answers) or None,
        minutes=sum(seconds) / 60 if seconds and None not in seconds else None,
        rate=batch * processes / time if batch and time else None,
        pretrained=meta.get('pretrained'),
        dataset=meta.get('dataset_digest'),
        history=history,
        answers=answers,
    )


def read_answers(report: Path, model: ModelFile) -> dict[str, tuple[str, str]]:
    """True and predicted class in a report of ``tools/test.py``, by the last two parts of each path (class, photo).

    Empty without a report, and for one of other weights or with test-time augmentation.
    """
    if not report.is_dir():
        return {}
    try:
        results = json.loads((report / 'metrics.json').read_bytes())
        if results['weights'] != model.digest or results['tta']:
            return {}
        with (report / 'predictions.csv').open(encoding='utf-8', errors='surrogateescape', newline='') as text:
            rows = list(csv.DictReader(text, strict=True))
        if not rows or any(None in row.values() for row in rows):
            raise ValueError('predictions.csv is empty or corrupt')
        return {'/'.join(Path(row['path']).parts[-2:]): (row['truth'], row['label']) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(
            f'{report}: no readable report ({error}). Write it again: tools/test.py … --report'
        ) from error


def iteration_seconds(work_dir: Path) -> float | None:
    """Mean duration of a training iteration with loading, in seconds; None if none is logged."""
    iterations = [record for log in read_scalars(work_dir) for record in log if {'train/loss', 'loss'} & record.keys()]
    times = [time for record in iterations if (time := record.get('train/time', record.get('time'))) is not None]
    return statistics.fmean(times) if times else None
