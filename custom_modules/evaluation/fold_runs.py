"""Cross-validation: trains configs on the folds of a dataset and collects their predictions in one table.

A run is a config, a fold and a seed. It is finished when the table has its predictions for the photos of the fold.
"""

import csv
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from custom_modules.datasets.annotation import read_classes
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.run_config import LOADERS, parse_options, read_config
from custom_modules.engine.stop_signals import Stopped, run_process, stop_signal
from custom_modules.engine.training import seed_problems
from custom_modules.errors import InputError, collect, refuse
from custom_modules.evaluation.cross_validation import KEYS, Row, by_config, read_table, write_rows
from custom_modules.files import check_file, check_folder, command_line, lock_folder, sha256_of
from custom_modules.metrics.calibration import arrays, mean_nll
from custom_modules.metrics.predictions import top1
from custom_modules.models.checkpoints import newest_checkpoint

TOOLS = Path(__file__).parents[2] / 'tools'


def cross_validate(
    configs: Sequence[str],
    out: Path,
    work_dir: Path,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    data_root: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """Makes the runs that the table lacks, and adds the predictions of each to the table.

    An existing table is continued. Each run is in ``<work_dir>/<config>_<settings>_<dataset>/fold<fold>_seed<seed>``.
    Returns the names of the runs that failed.

    Raises:
        InputError: The input cannot be used, or the table was made with other settings.
        Stopped: A signal ended the run in progress, which saved its state.
    """
    check_file(out)
    check_folder(work_dir)
    files, settings, root = read_configs(configs, seeds, data_root, options, work_dir)
    chosen, classes = find_folds(root, folds), read_classes(root / 'classes.txt')
    lists = [root / 'classes.txt', *sorted(root.glob('fold*/*.txt'))]
    dataset = _short_digest([read_manifest_digest(root), *map(sha256_of, lists)])
    runs: list[Row] = [
        dict(zip(KEYS, (name, settings[name], dataset, str(seed), str(fold)), strict=True))
        for seed, fold, name in itertools.product(seeds, chosen, files)
    ]
    lock = lock_folder(work_dir)  # noqa: F841  held until it is closed by going out of scope
    rows = existing_rows(out, settings, dataset)
    finished = {tuple(row[key] for key in KEYS) for row in rows}
    missing = [run for run in runs if tuple(run.values()) not in finished]
    print(f'{len(runs)} runs, {len(runs) - len(missing)} of them finished in {out}', flush=True)
    failed = []
    for number, run in enumerate(missing, len(runs) - len(missing) + 1):
        began, about = time.monotonic(), '{config} fold{fold} seed{seed}'.format(**run)
        print(f'started: {about}', flush=True)
        try:
            found = predict_fold(run, files[run['config']], root, work_dir, options)
        except InputError as error:
            failed.append(about)
            print(f'failed: {about}: {error}', flush=True)
            continue
        rows += found
        write_rows(out, rows, classes)
        predictions = list(by_config(found, classes)[run['config']].values())
        scores = f'top-1 {top1(predictions)}  NLL {mean_nll(*arrays(predictions)):.4f}'
        minutes = (time.monotonic() - began) / 60
        print(f'{number}/{len(runs)}  {about}  {scores}  {minutes:.1f} min', flush=True)
    return failed


def read_configs(
    configs: Sequence[str], seeds: Sequence[int], data_root: str | None, options: Sequence[str], work_dir: Path
) -> tuple[dict[str, str], dict[str, str], Path]:
    """The files of the configs and the digests of their settings, both by name, and their dataset."""
    problems = seed_problems(seeds)
    files: dict[str, str] = {}
    settings, roots = {}, set()
    for config in {Path(config).resolve(): config for config in configs}.values():
        name = Path(config).stem
        if files.setdefault(name, config) != config:
            problems.append(
                f'{files[name]}, {config}: the same name, which identifies a config in the table. Rename one.'
            )
        with collect(problems):
            settings[name], root = read_settings(config, options, data_root, work_dir)
            roots.add(root)
    if len(roots) > 1:
        problems.append(f'the configs have different datasets ({", ".join(sorted(roots))}). Name one by --data-root.')
    refuse(problems)
    return files, settings, Path(roots.pop())


def predict_fold(run: Row, config: str, root: Path, work_dir: Path, options: Sequence[str]) -> list[Row]:
    """Trains, or resumes, a run and predicts the photos of its fold with the weights of its last epoch.

    The ``state_dict`` of MMEngine's ``epoch_N.pth`` holds the EMA weights where an EMAHook keeps any. The rows are
    sorted by path.
    """
    if read_settings(config, options, str(root), work_dir)[0] != run['settings']:
        raise InputError('its config has changed since the start. Start the same command again.')
    folder = work_dir / '{config}_{settings}_{dataset}/fold{fold}_seed{seed}'.format(**run)
    common = ['--data-root', str(root), '--work-dir', str(folder)]
    overrides = ['--cfg-options', *options, *fold_options(run['fold'])]
    _run_tool('train', config, *common, '--seeds', run['seed'], '--resume', *overrides)
    last = newest_checkpoint(folder)
    if last is None:
        raise InputError('no epoch_N.pth to predict with. Let the config keep them (CheckpointHook).')
    table = folder / 'predictions.csv'
    table.unlink(missing_ok=True)  # of a start that was killed before its rows were in the table
    _run_tool('test', config, str(last), *common, '--out', str(table), *overrides)
    with table.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        rows = [{**run, **row, 'path': '/'.join(Path(row['path']).parts[-2:])} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: row['path'])


def _run_tool(name: str, *arguments: str) -> None:
    code = run_process([sys.executable, str(TOOLS / f'{name}.py'), *arguments])
    if stop_signal():
        raise Stopped(stop_signal(), 'with the predictions of all finished runs in the table')
    if code:
        raise InputError(f'tools/{name}.py ended with exit code {code}')


def existing_rows(out: Path, settings: Mapping[str, str], dataset: str) -> list[Row]:
    """The rows of an existing table, which must be for the same dataset and settings."""
    rows = read_table(out)[0] if out.exists() else []
    if any(row['dataset'] != dataset for row in rows):
        raise InputError(f'{out}: its predictions are for another dataset or other folds. Name another --out.')
    if other := {row['config'] for row in rows if settings.get(row['config'], row['settings']) != row['settings']}:
        names = ', '.join(sorted(other))
        raise InputError(f'{out}: made with another config or other --cfg-options: {names}. Name another --out.')
    return rows


def read_settings(config: str, options: Sequence[str], data_root: str | None, work_dir: Path) -> tuple[str, str]:
    """The digest of the settings that decide a run's result, and the dataset of a config.

    Not among these settings are the fold, the seed, and the paths of the dataset and the work dir.
    """
    cfg = read_config(config, parse_options([*options, *fold_options('0')]), data_root, str(work_dir), quiet=True)
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
        out = Path(f'{data_root}_folds') if data_root.exists() else data_root
        again = command_line('tools/split_dataset.py', 'PHOTOS', out, '--folds', '5')
        raise InputError(f'{data_root}: has no folds. Prepare the photos again: {again}')
    if missing := sorted(set(wanted or ()) - set(existing)):
        known = ', '.join(f'fold{fold}' for fold in existing)
        raise InputError(f'--folds {" ".join(map(str, missing))}: not in {data_root}. Name some of {known}.')
    return sorted(set(wanted)) if wanted else existing
