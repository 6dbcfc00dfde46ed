"""Tables and figure of a benchmark, from results made by hand."""

import json

import pytest

from custom_modules.benchmarks.drawing import draw
from custom_modules.benchmarks.report import as_markdown, at_a_million, tables, write_report


def side(factor, layout):
    return {
        'batch_size': 8,
        'photos_per_s': [factor * 10.0, factor * 20.0],
        'loaded_photos_per_s': [factor * 5.0, factor * 10.0],
        'step_seconds': [0.8, 0.4],
        'warm_up_seconds': 3.0,
        'peak_bytes': int(1e9),
        'gpu_peak_bytes': None,
        'memory_format': layout,
    }


@pytest.fixture
def results():
    return {
        'command': 'python tools/benchmark.py a.py',
        'date': '2026-01-01T00:00:00+00:00',
        'machine': {
            'processor': 'Some CPU',
            'cores': 2,
            'threads': 2,
            'device': 'cpu',
            'vector_instructions': 'AVX2',
            'system': 'Linux',
        },
        'versions': {'torch': '2'},
        'rounds': 2,
        'levels': [90.0, 95.0],
        'failed': [],
        'limits': {
            'machine and models': {
                'flops': {'float32': 1e11},
                'samples': {},
                'models': {
                    'a': {'size': 224, 'forward': 6e8, 'inference': 6e8, 'both': 18e8, 'gradient_bytes': 4_000_000}
                },
            }
        },
        'training': {
            'a': {
                'sides': {'stock': side(1, 'contiguous'), 'ours': side(2, 'channels last')},
                'losses': {
                    'iterations': 20,
                    'window': 10,
                    'mean_stock': 1.0,
                    'mean_ours': 1.01,
                    'largest_difference': 0.02,
                    'noise': 0.05,
                },
            }
        },
        'inference': {
            'a': {
                'rows': [
                    {
                        'what': 'model',
                        'batch': 1,
                        'photos_per_s': {'stock': [50.0], 'ours': [75.0], 'onnx': [200.0], 'int8': [400.0]},
                    },
                    {'what': 'predictor', 'batch': 1, 'photos_per_s': {'stock': [50.0], 'ours': [75.0]}},
                ],
                'split': {'threads': 2, 'batch': 32, 'one_process': [60.0], 'many_processes': [90.0]},
            }
        },
        'loader': {
            'a': {
                'stock': [100.0],
                'ours': [200.0],
                'bare': [250.0],
                'stock_workers': [150.0],
                'ours_workers': [300.0],
                'number_of_workers': 2,
                'photo_bytes': 60_000.0,
                'index_bytes': 120.0,
                'index_seconds': 1e-5,
            }
        },
        'time_to': {
            'a': [{'seed': 0, 'validations': [{'seconds': 61.0, 'top1': 91.0}], 'peak_bytes': None}],
        },
        'help': {'of each tool': {'python': [0.01], 'train': [0.2]}},
        'first_iteration': {'a': [9.0, 8.0, 10.0]},
    }


def test_rates_come_with_ratio_and_share_of_the_machine(results):
    text = as_markdown(results)
    assert '| a, batch 8 | step | 15.0 (10.0–20.0) | 30.0 (20.0–40.0) | 2.00 (2.00–2.00) | 27 % → 54 % |' in text
    assert '| 61.0 s, 1 of 1 seeds | not reached, 0 of 1 seeds | 91.00 % |' in text
    assert '| 60.0 | 90.0 | 1.50 |' in text
    assert '| a, batch 1 | model alone | 200, ratio 4.00 | 400, ratio 8.00 |' in text
    assert text.count('ratio 4.00') == 1  # what was not measured has no row
    assert 'stock: contiguous; ours: channels last' in text
    assert '| train.py a, to the first iteration | 9.00 (8.00–10.0) |' in text


def test_a_million_photos_follow_from_loader_and_training(results):
    (found,) = at_a_million(results).values()
    assert found['loading_hours'] == pytest.approx(1e6 / 200 / 3600)
    assert found['read_mb_per_s'] == pytest.approx(60_000 * 30 / 1e6)
    del results['loader']
    assert at_a_million(results) == {}


def test_parts_that_failed_have_no_table(results):
    for part in ('limits', 'training', 'inference', 'loader', 'time_to', 'help', 'first_iteration'):
        del results[part]
    results['failed'] = ['training, a: out of memory']
    assert tables(results) == []
    assert '- training, a: out of memory' in as_markdown(results)
    assert draw(results) is None


def test_what_is_written(results, tmp_path):
    write_report(tmp_path / 'new', results)
    assert {file.name for file in (tmp_path / 'new').iterdir()} == {
        'benchmark.json',
        'benchmark.md',
        'benchmark.png',
    }
    kept = json.loads((tmp_path / 'new' / 'benchmark.json').read_text())
    assert kept['training']['a']['sides']['ours']['photos_per_s'] == [20.0, 40.0]
    assert kept['at_a_million']['a']['loaders'] == 1
