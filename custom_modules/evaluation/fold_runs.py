"""Trainings of several configs on the folds of a dataset, one after another, with their predictions in one table.

A run is a config, a fold and a seed. It is finished when the table has its predictions for the photos of the fold.
"""

import csv
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from custom_modules.datasets.annotation import read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.run_config import LOADERS, parse_options, read_config
from custom_modules.engine.stop_signals import Stopped, run_process, stop_signal
from custom_modules.engine.training import seed_problems
from custom_modules.errors import InputError
from custom_modules.evaluation.cross_validation import KEYS, Row, as_recipes, read_rows, write_rows
from custom_modules.files import check_folder, lock_folder, sha256_of
from custom_modules.models.checkpoints import newest_checkpoint

TOOLS = Path(__file__).parents[2] / 'tools'


class FoldRun(NamedTuple):
    """One training."""

    file: str  # of the config
    keys: Row  # KEYS of the table; ``settings`` and ``dataset`` are digests
    photos: set[str]  # paths of the fold's photos

    def __str__(self) -> str:
        return '{config} fold{fold} seed{seed}'.format(**self.keys)

    def has(self, row: Row) -> bool:
        """Whether a row of the table is a prediction of this run."""
        return self.keys.items() <= row.items()


def cross_validate(
    configs: Sequence[str],
    out: Path,
    work_dir: Path,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    data_root: str | None = None,
    options: Sequence[str] = (),
) -> list[FoldRun]:
    """Makes the runs that the table lacks, and adds the predictions of each to the table.

    An existing table is continued. Each run is in ``<work_dir>/<config>_<settings>_<dataset>/fold<fold>_seed<seed>``.
    Returns the runs that failed.

    Raises:
        InputError: The input cannot be used, or the table was made with other settings.
        Stopped: A signal ended the run in progress, which saved its state.
    """
    if out.is_dir():
        raise InputError(f'--out {out}: is a folder. Name a file.')
    for folder in (out.parent, work_dir):
        check_folder(folder)
    runs, root, classes = plan_runs(configs, folds, seeds, data_root, options, work_dir)
    lock = lock_folder(work_dir)  # noqa: F841  held until it is closed by going out of scope
    rows = existing_rows(out, runs)
    missing = [run for run in runs if {row['path'] for row in rows if run.has(row)} != run.photos]
    print(f'{len(runs)} runs, {len(runs) - len(missing)} of them finished in {out}', flush=True)
    failed = []
    for number, run in enumerate(missing, len(runs) - len(missing) + 1):
        began = time.monotonic()
        print(f'started: {run}', flush=True)
        try:
            found = predict_fold(run, root, work_dir, options)
            (recipe,) = as_recipes(found, classes, out)
        except InputError as error:
            failed.append(run)
            print(f'failed: {run}: {error}', flush=True)
            continue
        rows = [row for row in rows if not run.has(row)] + found
        write_rows(out, rows, classes)
        (top1,), minutes = recipe.top1.values(), (time.monotonic() - began) / 60
        print(f'{number}/{len(runs)}  {run}  top-1 {top1}  NLL {recipe.nll:.4f}  {minutes:.1f} min', flush=True)
    return failed


def plan_runs(
    configs: Sequence[str],
    folds: Sequence[int] | None,
    seeds: Sequence[int],
    data_root: str | None,
    options: Sequence[str],
    work_dir: Path,
) -> tuple[list[FoldRun], Path, list[str]]:
    """All runs, by seed, fold and config; the dataset; its classes."""
    problems = seed_problems(seeds)
    files = list({Path(config).resolve(): config for config in configs}.values())
    stems = [Path(file).stem for file in files]
    if same := [file for file in files if stems.count(Path(file).stem) > 1]:
        problems.append(f'{", ".join(same)}: the same name, which identifies a config in the table. Rename one.')
    settings, roots = {}, set()
    for file in files:
        try:
            settings[file], root = read_settings(file, options, data_root, work_dir)
            roots.add(root)
        except InputError as error:
            problems += error.problems
    if len(roots) > 1:
        problems.append(f'the configs have different datasets ({", ".join(sorted(roots))}). Name one by --data-root.')
    if problems:
        raise InputError(*problems)
    data = Path(roots.pop())
    chosen, classes = find_folds(data, folds), read_classes(data / 'classes.txt')
    photos = {k: {sample.path for sample in read_samples(data / f'fold{k}/val.txt', classes)} for k in chosen}
    lists = [data / 'classes.txt', *sorted(data.glob('fold*/*.txt'))]
    dataset = _short_digest([read_manifest_digest(data), *(sha256_of(path) for path in lists)])
    runs = []
    for seed, fold, file in itertools.product(seeds, chosen, files):
        values = (Path(file).stem, settings[file], dataset, str(seed), str(fold))
        runs.append(FoldRun(file, dict(zip(KEYS, values, strict=True)), photos[fold]))
    return runs, data, classes


def predict_fold(run: FoldRun, root: Path, work_dir: Path, options: Sequence[str]) -> list[Row]:
    """Trains, or resumes, a run and predicts the photos of its fold with the weights of its last epoch.

    The ``state_dict`` of MMEngine's ``epoch_N.pth`` holds the EMA weights where an EMAHook keeps any. The rows are
    sorted by path.
    """
    if read_settings(run.file, options, str(root), work_dir)[0] != run.keys['settings']:
        raise InputError('its config has changed since the start. Start the same command again.')
    folder = work_dir / '{config}_{settings}_{dataset}/fold{fold}_seed{seed}'.format(**run.keys)
    common = ['--data-root', str(root), '--work-dir', str(folder)]
    overrides = ['--cfg-options', *options, *fold_options(run.keys['fold'])]
    _run_tool('train', run.file, *common, '--seeds', run.keys['seed'], '--resume', *overrides)
    last = newest_checkpoint(folder)
    if last is None:
        raise InputError('no epoch_N.pth to predict with. Let the config keep them (CheckpointHook).')
    table = folder / 'predictions.csv'
    _run_tool('test', run.file, str(last), *common, '--out', str(table), *overrides)
    with table.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        rows = [{**run.keys, **row, 'path': '/'.join(Path(row['path']).parts[-2:])} for row in csv.DictReader(file)]
    if {row['path'] for row in rows} != run.photos:
        raise InputError(f'{table}: has other photos than fold{run.keys["fold"]}. Delete {folder}.')
    return sorted(rows, key=lambda row: row['path'])


def _run_tool(name: str, *arguments: str) -> None:
    code = run_process([sys.executable, str(TOOLS / f'{name}.py'), *arguments])
    if stop_signal():
        raise Stopped(stop_signal(), 'with the predictions of all finished runs in the table')
    if code:
        raise InputError(f'tools/{name}.py ended with exit code {code}')


def existing_rows(out: Path, runs: Sequence[FoldRun]) -> list[Row]:
    """The rows of an existing table, which must be for the same dataset and settings as the runs."""
    rows = read_rows(out)[0] if out.exists() else []
    if any(row.get('dataset') != runs[0].keys['dataset'] for row in rows):
        raise InputError(f'{out}: its predictions are for another dataset or other folds. Name another --out.')
    settings = {run.keys['config']: run.keys['settings'] for run in runs}
    if other := {row['config'] for row in rows if settings.get(row['config'], row['settings']) != row['settings']}:
        names = ', '.join(sorted(other))
        raise InputError(f'{out}: made with another config or other --cfg-options: {names}. Name another --out.')
    return rows


def read_settings(config: str, options: Sequence[str], data_root: str | None, work_dir: Path) -> tuple[str, str]:
    """The digest of the settings that decide a run's result, and the dataset of a config.

    Not among these settings are the fold, the seed, and the paths of the dataset and the work dir.
    """
    cfg = read_config(config, parse_options([*options, *fold_options('0')]), data_root, str(work_dir))
    root = str(cfg.train_dataloader.dataset.get('data_root', '.'))
    settings = {name: value for name, value in cfg.to_dict().items() if name not in ('work_dir', 'data_root')}
    settings.get('randomness', {}).pop('seed', None)
    for name in LOADERS:
        settings[name]['dataset'].pop('data_root', None)
    return _short_digest(settings), root


def _short_digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


def fold_options(fold: str) -> list[str]:
    """``--cfg-options`` that train on a fold of the prepared dataset, and validate and test on the rest."""
    options = [f'train_dataloader.dataset.ann_file=fold{fold}/train.txt']
    for loader in ('val_dataloader', 'test_dataloader'):
        options += [f'{loader}.dataset.ann_file=fold{fold}/val.txt', f'{loader}.dataset.data_prefix=train']
    return options


def find_folds(data_root: Path, wanted: Sequence[int] | None = None) -> list[int]:
    """Numbers of the folds of a prepared dataset: the wanted ones, which must exist, or all."""
    numbers = [path.parent.name.removeprefix('fold') for path in data_root.glob('fold*/val.txt')]
    existing = sorted(int(number) for number in numbers if number.isdecimal())
    if not existing:
        raise InputError(
            f'{data_root}: has no folds. Prepare the photos again: '
            f'python tools/split_dataset.py PHOTOS {data_root}{"_folds" * data_root.exists()} --folds 5'
        )
    if missing := sorted(set(wanted or ()) - set(existing)):
        known = ', '.join(f'fold{fold}' for fold in existing)
        raise InputError(f'--folds {" ".join(map(str, missing))}: not in {data_root}, which has {known}')
    return sorted(set(wanted)) if wanted else existing
