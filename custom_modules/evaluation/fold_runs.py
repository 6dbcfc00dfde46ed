"""Trainings of several configs on the folds of a dataset, one after another, with their predictions in one table.

A run is a config, a fold and a seed. It is finished when the table has its predictions for the photos of the fold.
"""

import csv
import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_modules.datasets.annotation import read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.run_config import LOADERS, parse_options, read_config
from custom_modules.engine.stop_signals import Stopped, run_process, stop_signal
from custom_modules.engine.training import seed_problems
from custom_modules.errors import InputError
from custom_modules.evaluation.cross_validation import Row, as_recipes, read_rows, write_rows
from custom_modules.files import check_folder, lock_folder, sha256_of
from custom_modules.models.checkpoints import newest_checkpoint

TOOLS = Path(__file__).parents[2] / 'tools'


@dataclass(frozen=True)
class FoldRun:
    """One training: ``name`` is the config's file name without suffix, ``settings`` and ``dataset`` are digests."""

    config: str
    name: str
    settings: str
    dataset: str
    fold: int
    seed: int

    def __str__(self) -> str:
        return f'{self.name} fold{self.fold} seed{self.seed}'

    @property
    def keys(self) -> Row:
        """The columns of the table that identify the run and its settings."""
        values = {'settings': self.settings, 'dataset': self.dataset, 'seed': str(self.seed), 'fold': str(self.fold)}
        return {'config': self.name, **values}

    def is_of(self, row: Row) -> bool:
        """Whether a row of the table is a prediction of this run."""
        return all(row[key] == value for key, value in self.keys.items())


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

    Args:
        configs: Config files; a duplicate counts once.
        out: The table; an existing one is continued.
        work_dir: Where each run has ``<config>_<settings>_<dataset>/fold<fold>_seed<seed>``.
        folds: Numbers of the folds; None for all.
        seeds: The seeds.
        data_root: The prepared dataset; None for the configs' own.
        options: ``--cfg-options`` for all runs.

    Returns:
        The runs that failed.

    Raises:
        InputError: The input cannot be used, or the table was made with other settings.
        Stopped: A signal ended the run in progress, which saved its state.
    """
    _check_paths(out, work_dir)
    runs, root = plan_runs(configs, folds, seeds, data_root, options, work_dir)
    lock = lock_folder(work_dir)  # noqa: F841  held until it is closed by going out of scope
    classes = read_classes(root / 'classes.txt')
    photos = {run.fold: {s.path for s in read_samples(root / f'fold{run.fold}/val.txt', classes)} for run in runs}
    rows = existing_rows(out, runs)
    missing = [run for run in runs if {row['path'] for row in rows if run.is_of(row)} != photos[run.fold]]
    print(f'{len(runs)} runs, {len(runs) - len(missing)} of them finished in {out}', flush=True)
    failed = []
    for number, run in enumerate(missing, len(runs) - len(missing) + 1):
        began = time.monotonic()
        print(f'started: {run}', flush=True)
        try:
            found = predict_fold(run, root, work_dir, options, photos[run.fold])
            scores = _scores(found, classes, out)
        except InputError as error:
            failed.append(run)
            print(f'failed: {run}: {error}', flush=True)
            continue
        rows = [row for row in rows if not run.is_of(row)] + found
        write_rows(out, rows, classes)
        print(f'{number}/{len(runs)}  {run}  {scores}  {(time.monotonic() - began) / 60:.1f} min', flush=True)
    return failed


def _check_paths(out: Path, work_dir: Path) -> None:
    if out.is_dir():
        raise InputError(f'--out {out}: is a folder. Name a file.')
    check_folder(out.parent)
    check_folder(work_dir)


def _scores(rows: Sequence[Row], classes: Sequence[str], out: Path) -> str:
    (recipe,) = as_recipes(rows, classes, out)
    (top1,) = recipe.top1.values()
    return f'top-1 {top1}  NLL {recipe.nll:.4f}'


def plan_runs(
    configs: Sequence[str],
    folds: Sequence[int] | None,
    seeds: Sequence[int],
    data_root: str | None,
    options: Sequence[str],
    work_dir: Path,
) -> tuple[list[FoldRun], Path]:
    """All runs, by seed, fold and config, and the dataset.

    Raises:
        InputError: A config, an option, a seed or the dataset cannot be used.
    """
    if problems := seed_problems(seeds):
        raise InputError(*problems)
    settings, root = read_settings(configs, options, data_root, work_dir)
    chosen = find_folds(root, folds)
    lists = [root / 'classes.txt', *sorted(root.glob('fold*/*.txt'))]
    dataset = _short_digest([read_manifest_digest(root), *(sha256_of(path) for path in lists)])
    runs = [
        FoldRun(file, Path(file).stem, settings[file], dataset, fold, seed)
        for seed in seeds
        for fold in chosen
        for file in settings
    ]
    return runs, root


def predict_fold(run: FoldRun, root: Path, work_dir: Path, options: Sequence[str], photos: set[str]) -> list[Row]:
    """Trains, or resumes, a run and predicts the photos of its fold with the weights of its last epoch.

    The ``state_dict`` of MMEngine's ``epoch_N.pth`` holds the EMA weights where an EMAHook keeps any.

    Returns:
        The rows for the table, sorted by path.

    Raises:
        InputError: The training or the test failed.
        Stopped: A signal ended one of them.
    """
    if read_settings([run.config], options, str(root), work_dir)[0][run.config] != run.settings:
        raise InputError('its config has changed since the start. Start the same command again.')
    folder = work_dir / f'{run.name}_{run.settings}_{run.dataset}' / f'fold{run.fold}_seed{run.seed}'
    common = ['--data-root', str(root), '--work-dir', str(folder)]
    overrides = ['--cfg-options', *options, *fold_options(run.fold)]
    _run_tool('train', run.config, *common, '--seeds', str(run.seed), '--resume', *overrides)
    last = newest_checkpoint(folder)
    if last is None:
        raise InputError('no epoch_N.pth to predict with. Let the config keep them (CheckpointHook).')
    table = folder / 'predictions.csv'
    _run_tool('test', run.config, str(last), *common, '--out', str(table), *overrides)
    with table.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        rows = [{**run.keys, **row, 'path': '/'.join(Path(row['path']).parts[-2:])} for row in csv.DictReader(file)]
    if {row['path'] for row in rows} != photos:
        raise InputError(f'{table}: has other photos than fold{run.fold}. Delete {folder}.')
    return sorted(rows, key=lambda row: row['path'])


def _run_tool(name: str, *arguments: str) -> None:
    code = run_process([sys.executable, str(TOOLS / f'{name}.py'), *arguments])
    if stop_signal():
        raise Stopped(stop_signal(), 'with the predictions of all finished runs in the table')
    if code:
        raise InputError(f'tools/{name}.py ended with exit code {code}')


def existing_rows(out: Path, runs: Sequence[FoldRun]) -> list[Row]:
    """The rows of an existing table, which must be for the same dataset and settings as the runs.

    Raises:
        InputError: They are not, or the table cannot be read.
    """
    rows = read_rows(out)[0] if out.exists() else []
    if any(row['dataset'] != runs[0].dataset for row in rows):
        raise InputError(f'{out}: its predictions are for another dataset or other folds. Name another --out.')
    settings = {run.name: run.settings for run in runs}
    if other := {row['config'] for row in rows if settings.get(row['config'], row['settings']) != row['settings']}:
        names = ', '.join(sorted(other))
        raise InputError(f'{out}: made with another config or other --cfg-options: {names}. Name another --out.')
    return rows


def read_settings(
    configs: Sequence[str], options: Sequence[str], data_root: str | None, work_dir: Path
) -> tuple[dict[str, str], Path]:
    """Digests of the settings that decide a run's result, by config file, and the dataset of all configs.

    Not among these settings are the fold, the seed, and the paths of the dataset and the work dir.

    Raises:
        InputError: A config or an option cannot be used, or two configs have one name or different datasets.
    """
    files = list({Path(config).resolve(): config for config in configs}.values())
    stems = [Path(file).stem for file in files]
    if same := [file for file in files if stems.count(Path(file).stem) > 1]:
        raise InputError(f'{", ".join(same)}: the same name, which identifies a config in the table. Rename one.')
    digests: dict[str, str] = {}
    roots: set[str] = set()
    problems: list[str] = []
    for file in files:
        try:
            cfg = read_config(file, parse_options([*options, *fold_options(0)]), data_root, str(work_dir))
        except InputError as error:
            problems += error.problems
            continue
        roots.add(str(cfg.train_dataloader.dataset.get('data_root', '.')))
        settings = cfg.to_dict()
        for name in ('work_dir', 'data_root'):
            settings.pop(name, None)
        settings.get('randomness', {}).pop('seed', None)
        for name in LOADERS:
            settings[name]['dataset'].pop('data_root', None)
        digests[file] = _short_digest(settings)
    if problems:
        raise InputError(*problems)
    if len(roots) > 1:
        raise InputError(f'the configs have different datasets ({", ".join(sorted(roots))}). Name one by --data-root.')
    return digests, Path(roots.pop())


def _short_digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


def fold_options(fold: int) -> list[str]:
    """``--cfg-options`` that train on a fold of the prepared dataset, and validate and test on the rest."""
    held_out = [
        option
        for loader in ('val_dataloader', 'test_dataloader')
        for option in (f'{loader}.dataset.ann_file=fold{fold}/val.txt', f'{loader}.dataset.data_prefix=train')
    ]
    return [f'train_dataloader.dataset.ann_file=fold{fold}/train.txt', *held_out]


def find_folds(data_root: Path, wanted: Sequence[int] | None = None) -> list[int]:
    """Numbers of the folds of a prepared dataset: the wanted ones, or all.

    Raises:
        InputError: There are none, or not those.
    """
    found = {re.fullmatch(r'fold(\d+)', path.parent.name) for path in data_root.glob('fold*/val.txt')}
    existing = sorted(int(match[1]) for match in found if match)
    if not existing:
        raise InputError(
            f'{data_root}: has no folds. Prepare the photos again: '
            f'python tools/split_dataset.py PHOTOS {data_root}{"_folds" * data_root.exists()} --folds 5'
        )
    if missing := sorted(set(wanted or ()) - set(existing)):
        known = ', '.join(f'fold{fold}' for fold in existing)
        raise InputError(f'--folds {" ".join(map(str, missing))}: not in {data_root}, which has {known}')
    return sorted(set(wanted)) if wanted else existing
