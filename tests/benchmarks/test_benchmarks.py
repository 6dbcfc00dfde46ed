"""The scripts in benchmarks/, each run once on the tiny config."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


def run(name, *args, environment) -> str:
    command = [sys.executable, BENCHMARKS / f'{name}.py', *args]
    return subprocess.run(
        list(map(str, command)), env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


@pytest.mark.parametrize(
    ('parts', 'names'),
    [
        (['loader'], ['loader, one process']),
        pytest.param(
            ['training', 'inference'],
            [
                'training step, batch 4',
                'inference, batch 1, model alone',
                'inference, batch 1, from files',
                'inference, batch 32, model alone',
                'inference, batch 32, from files',
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_both_sides_are_measured_in_turns(parts, names, tiny_config, tool_environment, tmp_path):
    file = tmp_path / 'speed.json'
    options = ['--only', *parts, '--rounds', 2, '--seconds', 0.01, '--batch-size', 4, '--json', file]
    out = run('compare_with_stock', tiny_config, *options, environment=tool_environment)
    results = json.loads(file.read_text())
    assert results['environment']['PyTorch']
    assert list(results['images_per_second']) == names
    for name, samples in results['images_per_second'].items():
        assert [len(samples[side]) for side in ('stock', 'ours')] == [2, 2]
        assert min(samples['stock'] + samples['ours']) > 0
        assert f'| {name} |' in out


def test_each_validation_has_its_time(tiny_config, tool_environment, tmp_path):
    options = ['--seeds', 3, '--work-dir', tmp_path / 'runs', '--out', tmp_path / 'time.csv']
    out = run('accuracy_over_time', tiny_config, *options, environment=tool_environment)
    rows = list(csv.DictReader((tmp_path / 'time.csv').open()))
    assert [(row['config'], row['seed']) for row in rows] == [('tiny', '3')] * 2  # two epochs
    first, last = (float(row['seconds']) for row in rows)
    assert 0 < first < last < 300
    assert all(0 <= float(row['top1']) <= 100 for row in rows)
    assert out.count('tiny') == 1
