"""A finished training read back from its work dir: what it was, how it went, what it answered. Nothing is judged."""

import csv
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import Answer, Run
from custom_modules.evaluation.training_log import read_history
from custom_modules.files import printable
from custom_modules.models.checkpoints import load_checkpoint, weights_digest
from custom_modules.models.saved_config import config_text, parse_config, section

# What two runs of one recipe may differ in; and, if they were resumed, what from.
PLACES = ('work_dir', 'randomness', 'resume', 'launcher', 'pretrained')


def read_run(work_dir: Path) -> Run:
    """Reads a work dir.

    Raises:
        InputError: There is no best.pth in it, or it cannot be read.
    """
    best = work_dir / 'best.pth'
    if not best.is_file():
        raise InputError(f'{work_dir}: no run (no best.pth); give the work dir of a training')
    checkpoint = load_checkpoint(best)
    meta = checkpoint.get('meta') or {}
    settings = parse_config(config_text(meta) or '')
    places = (*PLACES, 'load_from') if settings.get('resume') else PLACES
    history = read_history(work_dir)
    answers = read_answers(work_dir / 'report', checkpoint)
    seconds = [record['seconds'] for record in history if record['seconds'] is not None]
    optimizer = section(section(settings, 'optim_wrapper'), 'optimizer')
    backbone = section(section(settings, 'model'), 'backbone')
    batch = number(section(settings, 'train_dataloader').get('batch_size'))
    processes = number(meta.get('processes')) or 1
    parts = [
        f'{optimizer.get("type")} lr {optimizer.get("lr")}',
        f'batch {f"{batch} × {processes}" if processes > 1 else batch}',
        f'max_epochs {section(settings, "train_cfg").get("max_epochs")}',
    ]
    if section(settings, 'train_cfg').get('type') == 'LinearProbeLoop':
        parts = ['linear probe']
    time = iteration_seconds(work_dir)
    return Run(
        name=printable(work_dir.as_posix()).removeprefix('work_dirs/'),
        model=f'{backbone.get("type", "?")}{backbone.get("depth", "")}',
        recipe=', '.join(parts),
        settings=json.dumps({k: v for k, v in settings.items() if k not in places}, sort_keys=True, default=str),
        seed=number(meta.get('seed')),
        best=number(meta.get('value'), 100) if meta.get('metric') == 'accuracy/top1' else None,
        best_epoch=meta.get('epoch'),
        last=number(history[-1]['val_accuracy']) if history else None,
        epochs=len(history),
        photos=number(meta.get('photos')) or len(answers) or None,
        minutes=sum(seconds) / 60 if seconds and len(seconds) == len(history) else None,
        rate=batch * processes / time if batch and time else None,
        pretrained=meta.get('pretrained'),
        dataset=meta.get('dataset_digest'),
        history=history,
        answers=answers,
    )


def read_answers(report: Path, checkpoint: dict) -> dict[str, Answer]:
    """What a checkpoint answered in a report's test, by the last two parts of each path (class and photo).

    Nothing where there is no report, or one of other weights or of photos together with their mirror images.

    Args:
        report: The folder that ``tools/test.py --report`` writes.
        checkpoint: As :func:`custom_modules.models.checkpoints.load_checkpoint` gives it.

    Raises:
        InputError: The report cannot be read.
    """
    if not report.is_dir():
        return {}
    try:
        results = json.loads((report / 'metrics.json').read_bytes())
        if results['weights'] != weights_digest(checkpoint.get('state_dict') or {}) or results['tta']:
            return {}
        with (report / 'predictions.csv').open(encoding='utf-8', errors='surrogateescape', newline='') as text:
            rows = list(csv.DictReader(text, strict=True))
        if not rows or any(None in row.values() for row in rows):
            raise ValueError('predictions.csv is empty or torn')
        return {'/'.join(Path(row['path']).parts[-2:]): Answer(row['truth'], row['label']) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(f'{report}: no readable report ({error}); write it anew: tools/test.py … --report') from error


def iteration_seconds(work_dir: Path) -> float | None:
    """Mean time of a training iteration, loading included; None where none is logged."""
    times: list[Any] = []
    for file in work_dir.glob('*/vis_data/scalars.json'):
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # a run that was killed leaves half a line
                continue
            if isinstance(record, dict) and {'train/loss', 'loss'} & record.keys():
                times.append(record.get('train/time', record.get('time')))
    known = [time for time in times if number(time) is not None]
    return statistics.fmean(known) if known else None


def number(value: Any, most: float = sys.float_info.max) -> Any:
    """``value`` if it is a number from 0 to ``most``, else None: what a file holds may be anything."""
    return value if isinstance(value, int | float) and 0 <= value <= most else None
