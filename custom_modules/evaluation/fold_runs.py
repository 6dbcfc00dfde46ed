"""Each recipe trained on each fold and asked about what the fold leaves out, resumably. What it answers is not judged.

A run is finished when its work dir holds ``predictions.csv``, which the test of its last checkpoint writes whole or
not at all. ``recipe.json`` beside it says what was trained, so that a run of anything else is never taken for it.
"""

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_modules.datasets.annotation import SIDES, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.engine.run_config import LOADERS, parse_options, read_config
from custom_modules.engine.runner import has_accelerator
from custom_modules.engine.stop_signals import Stopped, stop_signal, stop_signals_caught
from custom_modules.engine.training import seed_problems
from custom_modules.errors import InputError
from custom_modules.files import lock_folder, sha256_of, write_atomically
from custom_modules.metrics.predictions import columns
from custom_modules.models.checkpoints import newest_checkpoint
from custom_modules.photos.parallel import cores

TOOLS = Path(__file__).parents[2] / 'tools'
MEMORY = 5e9  # bytes that a training takes: up to 4.5 GB were measured (README, Speed)
RECIPE = 'recipe.json'


@dataclass(frozen=True)
class FoldRun:
    """One training: a recipe, a fold and a seed.

    Args:
        config: The config file.
        name: What the table calls it: the file's name without suffix.
        fold: Number of the fold that is left out.
        seed: The seed.
        data_root: The prepared dataset.
        work_dir: Where it is trained and answers.
        options: ``--cfg-options`` for all runs; the fold's own are added.
        photos: The fold's photos, ``class/image``.
        classes: Class names in label order.
        recipe: What decides the result beside the seed: the settings, as :func:`read_settings` gives them, and digests
            of the dataset and its lists, as :func:`read_lists` does.
    """

    config: str
    name: str
    fold: int
    seed: int
    data_root: str
    work_dir: Path
    options: tuple[str, ...]
    photos: frozenset[str] = field(repr=False)
    classes: tuple[str, ...]
    recipe: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f'{self.name} fold{self.fold} seed{self.seed}'

    @property
    def log(self) -> Path:
        """What its training and its test print."""
        return self.work_dir / 'train.log'

    def commands(self) -> Iterator[list[str]]:
        """The training, or what is left of it, and the test of its last epoch: never of the best one.

        The ``state_dict`` of MMEngine's ``epoch_N.pth`` is the averaged weights where an EMAHook keeps any.

        Raises:
            InputError: The config or the dataset is no longer what it was when the table began.
        """
        now = {
            'settings': read_settings(self.config, self.options, self.data_root, self.work_dir)[0],
            'photos': read_lists(Path(self.data_root), self.fold),
        }
        if changed := changes(self.recipe, now):
            raise InputError(f'not begun, for since the table began there is another {changed}')
        write_atomically(self.work_dir / RECIPE, lambda file: file.write(json.dumps(self.recipe, indent=1).encode()))
        data = ['--data-root', self.data_root]
        options = ['--cfg-options', *self.options, *fold_options(self.fold)]
        here = ['--work-dir', str(self.work_dir)]
        tool = [sys.executable, str(TOOLS / 'train.py')]
        yield [*tool, self.config, *data, *here, '--seeds', str(self.seed), '--resume', *options]
        last = newest_checkpoint(self.work_dir)
        if last is None:
            raise InputError('its training left no checkpoint; let the config keep them (CheckpointHook)')
        out = ['--out', str(self.work_dir / 'predictions.csv')]
        yield [sys.executable, str(TOOLS / 'test.py'), self.config, str(last), *data, *here, *out, *options]

    def answers(self) -> list[dict[str, str]] | None:
        """The rows of its photos for the table, by path; None while it is not finished."""
        try:
            with (self.work_dir / 'predictions.csv').open(
                encoding='utf-8', errors='surrogateescape', newline=''
            ) as file:
                reader = csv.DictReader(file, strict=True)
                rows = list(reader)
        except (OSError, ValueError, csv.Error):
            return None
        for row in rows:
            row['path'] = '/'.join(Path(row['path']).parts[-2:])
        if reader.fieldnames != columns(self.classes) or {row['path'] for row in rows} != self.photos:
            return None
        known = {'config': self.name, 'seed': str(self.seed), 'fold': str(self.fold)}
        return [{**known, **row} for row in sorted(rows, key=lambda row: row['path'])]

    def problem(self) -> str | None:
        """Why what its work dir holds cannot be taken for it; None where it can, and where there is nothing."""
        if newest_checkpoint(self.work_dir) is None and not (self.work_dir / 'predictions.csv').exists():
            return None
        try:
            there = json.loads((self.work_dir / RECIPE).read_bytes())
            changed = changes(there, self.recipe)
        except (OSError, ValueError, AttributeError, RecursionError):
            return f'holds a run that is not of such a table (no {RECIPE})'
        return f'holds a run with another {changed}' if changed else None


def plan_runs(
    configs: Sequence[str],
    folds: Sequence[int] | None,
    seeds: Sequence[int],
    work_dir: Path,
    data_root: str | None = None,
    options: Sequence[str] = (),
) -> list[FoldRun]:
    """All runs of a table in the order they are made: all recipes of a fold beside each other, all folds of a seed.

    Args:
        configs: Config files; one given twice counts once.
        folds: Numbers of the folds; None for all that exist.
        seeds: The seeds.
        work_dir: Where ``<config name>/fold<fold>_seed<seed>`` is made for each.
        data_root: The prepared dataset; None takes the configs' own, if they have the same.
        options: ``--cfg-options`` for all.

    Raises:
        InputError: A config cannot be used, two have one name or different datasets, there are no folds, or a work dir
            holds something else; every such thing at once.
    """
    files = list({Path(config).resolve(): config for config in configs}.values())
    names = [Path(file).stem for file in files]
    if len(set(names)) < len(names):
        twice = sorted({file for file in files if names.count(Path(file).stem) > 1})
        raise InputError(f'{", ".join(twice)}: have one name, which would be one row; rename one')
    if wrong := seed_problems(seeds):
        raise InputError(*wrong)
    settings: dict[str, dict[str, str]] = {}
    roots: set[str] = set()
    problems: list[str] = []
    for file in files:
        try:
            settings[file], there = read_settings(file, options, data_root, work_dir)
            roots.add(there)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    if len(roots) > 1:
        raise InputError(f'the configs have different datasets ({", ".join(sorted(roots))}); name one by --data-root')
    root = Path(roots.pop())
    chosen = find_folds(root, folds)
    classes = tuple(read_classes(root / 'classes.txt'))
    photos = {
        fold: frozenset(sample.path for sample in read_samples(root / f'fold{fold}' / 'val.txt', classes))
        for fold in chosen
    }
    lists = {fold: read_lists(root, fold) for fold in chosen}
    runs = [
        FoldRun(
            file,
            name,
            fold,
            seed,
            str(root),
            work_dir / name / f'fold{fold}_seed{seed}',
            tuple(options),
            photos[fold],
            classes,
            {'settings': settings[file], 'photos': lists[fold]},
        )
        for seed in seeds
        for fold in chosen
        for file, name in zip(files, names, strict=True)
    ]
    found: dict[tuple[str, str], list[FoldRun]] = {}
    for run in runs:
        if problem := run.problem():
            found.setdefault((run.name, problem), []).append(run)
    if found:
        mend = 'name another --work-dir, or delete it'
        raise InputError(
            *(
                f'{group[0].work_dir}{f" and {len(group) - 1} more" * (len(group) > 1)}: {problem}; {mend}'
                for (_, problem), group in found.items()
            )
        )
    return runs


def fold_options(fold: int) -> list[str]:
    """``--cfg-options`` that train on a fold of the prepared dataset, and validate and test what it leaves out."""
    return [
        f'train_dataloader.dataset.ann_file=fold{fold}/train.txt',
        *(
            option
            for loader in ('val_dataloader', 'test_dataloader')
            for option in (f'{loader}.dataset.ann_file=fold{fold}/val.txt', f'{loader}.dataset.data_prefix=train')
        ),
    ]


def find_folds(data_root: Path, wanted: Sequence[int] | None = None) -> list[int]:
    """Numbers of the folds of a prepared dataset, of those wanted if any are named.

    Raises:
        InputError: There are none, or not those.
    """
    found = {re.fullmatch(r'fold(\d+)', path.parent.name) for path in data_root.glob('fold*/val.txt')}
    there = sorted(int(match[1]) for match in found if match)
    if not there:
        raise InputError(
            f'{data_root}: holds no folds; prepare the photos with some: '
            f'python tools/split_dataset.py PHOTOS {data_root}{"_folds" * data_root.exists()} --folds 5'
        )
    if missing := sorted(set(wanted or ()) - set(there)):
        raise InputError(
            f'--folds {" ".join(map(str, missing))}: {data_root} has {", ".join(f"fold{fold}" for fold in there)}'
        )
    return sorted(set(wanted)) if wanted else there


def read_settings(
    config: str, options: Sequence[str], data_root: str | None, work_dir: Path
) -> tuple[dict[str, str], str]:
    """The settings that decide a run's result, as JSON by their first key, and where its dataset is.

    Left out is what the runs of one recipe may differ in: fold, seed, and where dataset and work dir lie.

    Raises:
        InputError: The config or an option cannot be used.
    """
    cfg = read_config(config, parse_options([*options, *fold_options(0)]), data_root, str(work_dir))
    root = str(cfg.train_dataloader.dataset.get('data_root', '.'))
    settings = cfg.to_dict()
    for name in ('work_dir', 'data_root'):
        settings.pop(name, None)
    settings.get('randomness', {}).pop('seed', None)
    for name in LOADERS:
        settings[name]['dataset'].pop('data_root', None)
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in settings.items()}, root


def read_lists(data_root: Path, fold: int) -> dict[str, str | None]:
    """Digests of a prepared dataset and of the lists of one of its folds.

    Raises:
        InputError: A list is missing, or the manifest is broken.
    """
    lists = [data_root / 'classes.txt', *(data_root / f'fold{fold}' / f'{side}.txt' for side in SIDES)]
    if missing := [str(path) for path in lists if not path.is_file()]:
        raise InputError(f'{", ".join(missing)}: no such file; split the photos again with --folds')
    digests = {path.name: sha256_of(path) for path in lists}
    return {'dataset': read_manifest_digest(data_root), **digests}


def changes(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names in what two recipes differ; empty where they do not."""
    before, after = one.get('settings', {}), other.get('settings', {})
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    found = [f'config or --cfg-options ({", ".join(keys)})'] if keys else []
    if one.get('photos') != other.get('photos'):
        found.append('dataset or folds')
    return ', '.join(found)


def parallel_runs(jobs: int | None = None) -> tuple[int, int]:
    """How many runs at a time, and the threads for each.

    Two runs of one thread get more done than one of two, which wait for each other; so the default is a run a core, as
    far as the machine's memory reaches (what a container may take of it is not asked). An accelerator gets one run.
    ``OMP_NUM_THREADS`` is left as it is.
    """
    if jobs is None:
        jobs = 1 if has_accelerator() else cores()
        with suppress(AttributeError, ValueError, OSError):  # not on Windows
            jobs = max(1, min(jobs, int(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / MEMORY)))
    given = os.environ.get('OMP_NUM_THREADS', '')
    return jobs, int(given) if given.isdecimal() else max(1, cores() // jobs)


@dataclass
class _Process:
    run: FoldRun
    commands: Iterator[list[str]]
    popen: subprocess.Popen
    began: float
    log_from: int  # bytes: a log goes on where an earlier attempt left it


def run_all(
    runs: Sequence[FoldRun], jobs: int, threads: int, finished: Callable[[FoldRun, list[dict[str, str]], float], None]
) -> list[FoldRun]:
    """Makes the runs, some at a time, each in processes of its own; says at once which start and which fail, and why.

    Args:
        runs: Those that are not finished, in order.
        jobs: How many at a time.
        threads: For each.
        finished: Called after each that is, with its rows and how long it took, in seconds.

    Returns:
        The runs that failed.

    Raises:
        Stopped: A signal asked for it, and was handed on; the runs have saved what they had.
    """
    waiting, running, failed = list(runs), [], []
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
    told = waited = False

    def fail(run: FoldRun, why: str) -> None:
        failed.append(run)
        print(f'failed: {run}: {why}', flush=True)

    def go_on(run: FoldRun, commands: Iterator[list[str]], began: float) -> None:
        """Starts the next command of a run, or takes its rows after the last."""
        try:
            command = next(commands, None)
        except InputError as error:
            fail(run, str(error))
            return
        if command is None:
            rows = run.answers()
            if rows is None:
                fail(run, f'answered about other photos than those of fold{run.fold}; see {run.log}')
            else:
                finished(run, rows, time.monotonic() - began)
            return
        with run.log.open('ab') as log:
            log_from = log.tell()
            popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        running.append(_Process(run, commands, popen, began, log_from))

    with stop_signals_caught():
        try:
            while running or (waiting and not stop_signal()):
                if not stop_signal() and len(running) < jobs and (run := _first_free(waiting)):
                    waiting.remove(run)
                    print(f'started: {run}; its output: {run.log}', flush=True)
                    go_on(run, run.commands(), time.monotonic())
                    continue
                if waiting and not running and not waited:
                    waited = True
                    print(f'{waiting[0]}: waiting for a process that is still at it', flush=True)
                if stop_signal() and not told:
                    told = True
                    for process in running:
                        process.popen.send_signal(stop_signal())
                time.sleep(0.2)
                for process in [process for process in running if process.popen.poll() is not None]:
                    running.remove(process)
                    if stop_signal():
                        if (rows := process.run.answers()) is not None:  # its test came to its end
                            finished(process.run, rows, time.monotonic() - process.began)
                        continue
                    if process.popen.returncode:
                        fail(process.run, f'{_last_words(process)}; see {process.run.log}')
                    else:
                        go_on(process.run, process.commands, process.began)
        finally:
            for process in running:  # only where something went wrong here
                process.popen.terminate()
    if stop_signal():
        raise Stopped(stop_signal(), 'with all that is finished in the table')
    return failed


def _first_free(runs: Sequence[FoldRun]) -> FoldRun | None:
    """The first run that no process is at; a table that was killed may have left some that go on by themselves."""
    for run in runs:
        try:
            lock = lock_folder(run.work_dir)
        except InputError:
            continue
        if lock:
            lock.close()
        return run
    return None


def _last_words(process: _Process) -> str:
    """Why a process failed: the error that its log ends with, the signal that killed it, or its last line."""
    with process.run.log.open('rb') as log:
        log.seek(process.log_from)
        lines = [line.strip() for line in log.read().decode(errors='replace').splitlines() if line.strip()]
    if errors := [line.removeprefix('error: ') for line in lines if line.startswith('error: ')]:
        return errors[-1]
    code = process.popen.returncode
    if code < 0:
        return f'killed by signal {-code}{" (out of memory?)" * (code == -9)}'
    return lines[-1] if lines else f'exit code {code}'
