"""Measurements as tables, for the terminal and as Markdown, and as JSON and PNG. Nothing is measured."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_modules.benchmarks.summaries import Costs, at_scale, figure, ratio, spread, time_to
from custom_modules.files import write_atomically

Rows = list[dict[str, str]]
WHAT = {'model': 'model alone', 'predictor': 'Predictor, photos read'}


@dataclass(frozen=True)
class Table:
    """A table, its title, and what a reader has to know."""

    title: str
    rows: Rows
    notes: Sequence[str] = ()


def tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of what was measured; parts that were not have none."""
    found = [
        training_table(results),
        losses_table(results),
        inference_table(results),
        exported_table(results),
        split_table(results),
        loader_table(results),
        time_to_table(results),
        startup_table(results),
        limits_table(results),
        scale_table(results),
    ]
    return [table for table in found if table.rows]


def limits_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`limits.measure_limits` found; empty if that failed."""
    return next(iter(results.get('limits', {}).values()), {'flops': {}, 'samples': {}, 'models': {}})


def share(results: Mapping[str, Any], title: str, rate: float, passes: str) -> str:
    """What photos/s are of the machine's float32 rate: ``31 %``; a dash where that is not known.

    Args:
        results: All.
        title: The model.
        rate: Photos/s.
        passes: ``'both'``, forward and backward, or ``'inference'``.
    """
    limits = limits_of(results)
    operations = limits['models'].get(title, {}).get(passes)
    if operations is None or 'float32' not in limits['flops']:
        return '–'
    return f'{100 * rate * operations / limits["flops"]["float32"]:.0f} %'


def megabytes(size: float | None) -> str:
    """A size in memory; a dash where it is not known."""
    return '–' if size is None else f'{size / 1e6:.0f} MB'


def training_table(results: Mapping[str, Any]) -> Table:
    """Photos/s of both sides, their ratio, share of the machine, warm-up and memory."""
    rows: Rows = []
    for title, found in results.get('training', {}).items():
        stock, ours = found['sides']['stock'], found['sides']['ours']
        for what, key in (('step', 'photos_per_s'), ('step and loading', 'loaded_photos_per_s')):
            one, other = spread(stock[key]), spread(ours[key])
            rows.append(
                {
                    'training': f'{title}, batch {ours["batch_size"]}',
                    'what': what,
                    'stock photos/s': str(one),
                    'ours photos/s': str(other),
                    'ratio': str(ratio(ours[key], stock[key])),
                    'share of the machine': ' → '.join(
                        share(results, title, each.median, 'both') for each in (one, other)
                    ),
                    'warm-up s': f'{figure(stock["warm_up_seconds"])} → {figure(ours["warm_up_seconds"])}',
                    'peak memory': f'{megabytes(stock["peak_bytes"])} → {megabytes(ours["peak_bytes"])}',
                    **(
                        {'GPU memory': f'{megabytes(stock["gpu_peak_bytes"])} → {megabytes(ours["gpu_peak_bytes"])}'}
                        if ours['gpu_peak_bytes'] is not None
                        else {}
                    ),
                }
            )
        about = {name: f'{name}: {side["memory_format"]}' for name, side in (('stock', stock), ('ours', ours))}
    notes = [
        f'Median (range) of {results.get("rounds")} blocks; the ratio is of blocks one after the other. Stock is the '
        'same config, hooks and batches (loaded by the config’s transforms) by MMEngine’s Runner, with contiguous '
        'weights and the C library’s allocator as it is. A step is forward, backward, optimizer and hooks. Memory is '
        'that of all processes of a side.'
    ]
    if rows:
        notes.append(f'As found, {"; ".join(about.values())}.')
    return Table('Training', rows, notes)


def losses_table(results: Mapping[str, Any]) -> Table:
    """Both sides' losses from the same weights on the same batches."""
    rows: Rows = []
    for title, found in results.get('training', {}).items():
        losses = found['losses']
        rows.append(
            {
                'training': title,
                'iterations': str(losses['iterations']),
                'mean loss, stock': f'{losses["mean_stock"]:.4f}',
                'mean loss, ours': f'{losses["mean_ours"]:.4f}',
                'largest difference': f'{losses["largest_difference"]:.4f}',
                'noise': f'{losses["noise"]:.4f}',
            }
        )
    windows = ', '.join(sorted({str(found['losses']['window']) for found in results.get('training', {}).values()}))
    return Table(
        'The same losses',
        rows,
        [
            f'The largest difference is between the curves of means over {windows} iterations; noise is the standard '
            'deviation of such a mean, from how much neighbouring batches differ.'
        ],
    )


def inference_table(results: Mapping[str, Any]) -> Table:
    """Photos/s of both sides by batch size, the model alone and through Predictor."""
    rows: Rows = []
    for title, found in results.get('inference', {}).items():
        for row in found['rows']:
            stock, ours = row['photos_per_s']['stock'], row['photos_per_s']['ours']
            shares = [share(results, title, spread(each).median, 'inference') for each in (stock, ours)]
            rows.append(
                {
                    'inference': f'{title}, batch {row["batch"]}',
                    'what': WHAT[row['what']],
                    'stock photos/s': str(spread(stock)),
                    'ours photos/s': str(spread(ours)),
                    'ratio': str(ratio(ours, stock)),
                    'share of the machine': ' → '.join(shares) if row['what'] == 'model' else '–',
                }
            )
    return Table('Inference', rows, ['Stock is the model as MMPretrain builds it, ours the one that Predictor uses.'])


def exported_table(results: Mapping[str, Any]) -> Table:
    """Photos/s of the exported models, and how many times those of stock they are."""
    rows: Rows = []
    for title, found in results.get('inference', {}).items():
        for row in found['rows']:
            rates = row['photos_per_s']
            if 'onnx' not in rates:
                continue
            rows.append(
                {
                    'inference': f'{title}, batch {row["batch"]}',
                    'what': WHAT[row['what']],
                    **{
                        f'{name}, photos/s': f'{spread(rates[side])}, ratio {ratio(rates[side], rates["stock"])}'
                        for name, side in {'ONNX Runtime': 'onnx', 'in 8 bits': 'int8'}.items()
                    },
                }
            )
    return Table(
        'Inference of the exported model',
        rows,
        [
            'Ratios are to stock, measured in turns with these. Waiting for each other, ONNX Runtime’s threads spin, '
            'as torch’s do, for the model alone, and sleep beside the reading of photos.'
        ],
    )


def split_table(results: Mapping[str, Any]) -> Table:
    """One process with all threads beside one a core."""
    rows: Rows = []
    for title, found in results.get('inference', {}).items():
        if split := found.get('split'):
            rows.append(
                {
                    'inference': f'{title}, batch {split["batch"]}',
                    f'one process, {split["threads"]} threads': str(spread(split['one_process'])),
                    f'{split["threads"]} processes, one thread each': str(spread(split['many_processes'])),
                    'ratio': str(ratio(split['many_processes'], split['one_process'])),
                }
            )
    return Table('Inference in several processes, photos/s', rows)


def loader_table(results: Mapping[str, Any]) -> Table:
    """Photos/s of the loader on one core, of bare decoding, and of the DataLoader."""
    rows: Rows = []
    for title, found in results.get('loader', {}).items():
        rows.append(
            {
                'loader': title,
                'stock, one core': str(spread(found['stock'])),
                'ours, one core': str(spread(found['ours'])),
                'ratio': str(ratio(found['ours'], found['stock'])),
                'decode, crop and flip alone': str(spread(found['bare'])),
                'ours to alone': str(ratio(found['ours'], found['bare'])),
                'DataLoader, stock': str(spread(found['stock_workers'])),
                'DataLoader, ours': f'{spread(found["ours_workers"])}, {found["number_of_workers"]} workers',
                'photo': f'{found["photo_bytes"] / 1e3:.0f} kB',
            }
        )
    return Table(
        'Loading, photos/s',
        rows,
        [
            'One core: dataset, pipeline, seeding (ours) and collating; stock has upstream’s transforms. Alone: '
            'OpenCV reads, decodes whole, crops, resizes and flips the same photos. Files are in the system’s cache.'
        ],
    )


def time_to_table(results: Mapping[str, Any]) -> Table:
    """Seconds to each level, mean over the seeds that got there."""
    rows: Rows = []
    for title, runs in results.get('time_to', {}).items():
        times = time_to([run['validations'] for run in runs], results['levels'])
        peaks = [run['peak_bytes'] for run in runs if run['peak_bytes']]
        best = [max((found['top1'] for found in run['validations']), default=math.nan) for run in runs]
        rows.append(
            {
                'training': title,
                'seeds': ', '.join(str(run['seed']) for run in runs),
                **{f'{level:g} %': str(time) for level, time in times.items()},
                'best seen': ', '.join(f'{each:.2f} %' for each in best),
                'peak memory': megabytes(max(peaks) if peaks else None),
            }
        )
    return Table(
        'Time to a validation top-1',
        rows,
        [
            'Seconds from the start of tools/train.py to the end of the first validation with that score: start-up, '
            'checks and all validations count. Mean (range) of the seeds that got '
            'there.'
        ],
    )


def startup_table(results: Mapping[str, Any]) -> Table:
    """Seconds of ``--help``, and to the first iteration."""
    rows: Rows = []
    for samples in results.get('help', {}).values():
        for name, seconds in samples.items():
            what = 'python, nothing else' if name == 'python' else f'{name}.py --help'
            rows.append({'command': what, 'seconds': str(spread(seconds))})
    for title, seconds in results.get('first_iteration', {}).items():
        rows.append({'command': f'train.py {title}, to the first iteration', 'seconds': str(spread(seconds))})
    return Table('Start-up', rows)


def limits_table(results: Mapping[str, Any]) -> Table:
    """Rates of matrix multiplication, and operations of each model."""
    limits = limits_of(results)
    rows: Rows = [
        {'limit': f'matrix multiplication, {kind}', 'measured': f'{rate / 1e9:.0f} GFLOP/s'}
        for kind, rate in limits['flops'].items()
    ]
    for title, model in limits['models'].items():
        passes = f'forward {model["forward"] / 1e9:.3g} GFLOP a photo'
        if model['both'] is not None:
            passes += f', with backward {model["both"] / 1e9:.3g}'
        rows.append({'limit': f'{title}, {model["size"]} pixels', 'measured': passes})
    return Table(
        'Limits',
        rows,
        [
            'Best of several sizes, with as many threads as the training. A multiply-add counts as two operations; '
            'only convolutions and matrix multiplications count. Shares of the machine are of the float32 rate; '
            'above 100 % is possible, for operations are counted that an algorithm may save.'
        ],
    )


def scale_table(results: Mapping[str, Any]) -> Table:
    """What an epoch of a million photos takes, by what was measured of each training."""
    rows: Rows = []
    for title, found in at_a_million(results).items():
        rates = ', '.join(
            f'{each["processes"]}: {figure(each["mb"])} MB, {figure(each["mbit_per_s"])} Mbit/s'
            for each in found['all_reduce']
        )
        rows.append(
            {
                'training': title,
                'loading, one core': f'{figure(found["loading_hours"])} h',
                'training, one process': f'{figure(found["training_hours"])} h',
                'loaders a process': str(found['loaders']),
                'read': f'{figure(found["read_mb_per_s"])} MB/s of {figure(found["photos_gb"])} GB',
                'index': f'{figure(found["index_mb"])} MB, built in {figure(found["index_seconds"])} s',
                'gradients sent a step, and rate for a tenth of it': rates,
            }
        )
    return Table(
        'At a million photos',
        rows,
        [
            'An epoch, computed from the figures above, if nothing else gets in the way: photos like these, one '
            'processor like this one a process, a ring all-reduce for so many processes.'
        ],
    )


def at_a_million(results: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`summaries.at_scale` of each training whose loading and steps were both measured."""
    found = {}
    for title, training in results.get('training', {}).items():
        loader, model = results.get('loader', {}).get(title), limits_of(results)['models'].get(title)
        if loader is None or model is None:
            continue
        ours = training['sides']['ours']
        costs = Costs(
            photo_bytes=loader['photo_bytes'],
            load_seconds=1 / spread(loader['ours']).median,
            train_seconds=1 / spread(ours['photos_per_s']).median,
            step_seconds=spread(ours['step_seconds']).median,
            gradient_bytes=model['gradient_bytes'],
            index_bytes=loader['index_bytes'],
            index_seconds=loader['index_seconds'],
        )
        found[title] = at_scale(costs)
    return found


def as_markdown(results: Mapping[str, Any]) -> str:
    """All tables, what failed, and what they were measured on and by."""
    machine, versions = results['machine'], results['versions']
    lines = [
        f'Measured {results["date"]} on {machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} '
        f'threads, {machine["vector_instructions"]}, device {machine["device"]}; '
        f'{", ".join(f"{name} {each}" for name, each in versions.items())}; by',
        '',
        f'    {results["command"]}',
    ]
    for table in tables(results):
        columns = list(dict.fromkeys(column for row in table.rows for column in row))
        lines += ['', f'### {table.title}', '', f'| {" | ".join(columns)} |', f'|{"---|" * len(columns)}']
        lines += [f'| {" | ".join(row.get(column, "–") for column in columns)} |' for row in table.rows]
        lines += ['', *(f'- {note}' for note in table.notes)] if table.notes else []
    if results['failed']:
        lines += ['', '### Failed', '', *(f'- {line}' for line in results['failed'])]
    return '\n'.join(lines) + '\n'


def write_report(out: Path, results: Mapping[str, Any]) -> None:
    """Writes ``benchmark.json`` with every sample, ``benchmark.md``, and ``benchmark.png`` if there is a figure."""
    from custom_modules.benchmarks.drawing import draw
    from custom_modules.metrics.plots import as_png

    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**results, 'at_a_million': at_a_million(results)}, indent=1, ensure_ascii=False) + '\n'
    write_atomically(out / 'benchmark.json', lambda file: file.write(content.encode()))
    write_atomically(out / 'benchmark.md', lambda file: file.write(as_markdown(results).encode()))
    if (figure := draw(results)) is not None:
        picture = as_png(figure)
        write_atomically(out / 'benchmark.png', lambda file: file.write(picture))
