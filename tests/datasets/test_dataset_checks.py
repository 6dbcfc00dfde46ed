"""Findings in whole folders, raw and prepared: copies, leaks, conflicts, annotation, manifest, balance."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from custom_modules.datasets.check_report import format_report
from custom_modules.datasets.class_counts import class_weights
from custom_modules.datasets.dataset_checks import CheckReport, check_dataset
from custom_modules.datasets.splitting import split_dataset
from custom_modules.pages import SUFFIXES, write_out


@pytest.fixture
def raw(tmp_path: Path, draw: Callable) -> Path:
    """Two classes of six good photos."""
    for number, name in enumerate(('daisy', 'rose')):
        (tmp_path / 'raw' / name).mkdir(parents=True)
        for seed in range(6):
            draw(100 * number + seed).save(tmp_path / 'raw' / name / f'{name}{seed}.png')
    return tmp_path / 'raw'


@pytest.fixture
def prepared(raw: Path) -> Path:
    """The same, split: four to train and two to validate in each class, and two folds."""
    split_dataset(raw, raw.parent / 'data', ratio=0.7, folds=2)
    return raw.parent / 'data'


def check(folder: Path) -> CheckReport:
    return check_dataset(folder, crop=32)


def found(folder: Path) -> dict[str, list[tuple[str, ...]]]:
    """Paths of the findings by kind."""
    return {kind: [item.paths for item in items] for kind, items in check(folder).by_kind.items()}


def test_nothing_is_found_in_good_folders(raw, prepared):
    report = check(raw)
    assert (report.findings, report.has_problems, report.prepared) == ([], False, False)
    assert report.counts == {'': {'daisy': 6, 'rose': 6}}
    (prepared / 'classes.txt').write_text('rose\ndaisy\n')
    for name in ('train.txt', 'val.txt', 'fold0/train.txt', 'fold0/val.txt', 'fold1/train.txt', 'fold1/val.txt'):
        lines = (prepared / name).read_text().splitlines()
        swapped = [f'{line[:-1]}{1 - int(line[-1])}\n' for line in lines]
        (prepared / name).write_text(''.join(swapped))
    report = check(prepared)
    assert (report.findings, report.has_problems, report.prepared) == ([], False, True)
    assert report.counts == {'train': {'daisy': 4, 'rose': 4}, 'val': {'daisy': 2, 'rose': 2}}
    assert list(report.class_weights) == ['rose', 'daisy']  # in label order


def test_copies_near_duplicates_and_conflicts(raw, draw):
    shutil.copy(raw / 'rose' / 'rose0.png', raw / 'rose' / 'copy.png')
    draw(100).resize((96, 72)).save(raw / 'rose' / 'larger.jpg', quality=80)
    shutil.copy(raw / 'rose' / 'rose1.png', raw / 'daisy' / 'other.png')
    draw(102).save(raw / 'daisy' / 'alike.jpg', quality=90)
    assert found(raw) == {
        'exact_duplicate': [('rose/copy.png', 'rose/rose0.png')],
        'near_duplicate': [('rose/copy.png', 'rose/larger.jpg', 'rose/rose0.png')],
        'conflict_content': [('daisy/other.png', 'rose/rose1.png')],
        'conflict_look': [('daisy/alike.jpg', 'rose/rose2.png')],
    }


def test_near_duplicates_that_a_split_kept_together_are_a_note(raw, draw):
    draw(100).save(raw / 'rose' / 'other.jpg', quality=90)
    split_dataset(raw, raw.parent / 'data', ratio=0.7)
    report = check(raw.parent / 'data')
    assert list(report.by_kind) == ['near_duplicate_one_side']
    assert not report.has_problems


def test_leaks_by_content_and_look(prepared):
    first, second, third, fourth = sorted((prepared / 'train' / 'rose').iterdir())
    shutil.copy(first, prepared / 'val' / 'rose')
    shutil.copy(second, prepared / 'val' / 'rose' / 'renamed.png')
    shutil.copy(third, prepared / 'val' / 'daisy' / 'copy.png')  # a conflict too
    Image.open(fourth).save(prepared / 'val' / 'rose' / 'look.jpg', quality=90)
    (prepared / 'manifest.json').unlink()
    conflict = [(f'train/rose/{third.name}', 'val/daisy/copy.png')]
    report = found(prepared)
    assert len(report.pop('unlisted')) == 4
    assert report == {
        'leak_content': [
            (f'train/rose/{first.name}', f'val/rose/{first.name}'),
            (f'train/rose/{second.name}', 'val/rose/renamed.png'),
            *conflict,
        ],
        'leak_look': [(f'train/rose/{fourth.name}', 'val/rose/look.jpg')],
        'conflict_content': conflict,
    }


def test_annotation_errors_are_all_found_with_other_findings(prepared):
    train = (prepared / 'train.txt').read_text().splitlines()
    invented = [f'lily/{number}.png 0' for number in range(50)]
    (prepared / 'train.txt').write_text('\n'.join([train[0][:-1] + '7', *invented]))
    (prepared / 'val.txt').unlink()
    shutil.copy(prepared / 'fold0' / 'train.txt', prepared / 'fold0' / 'val.txt')
    (prepared / 'val' / 'rose' / 'empty.png').touch()
    report = check(prepared)
    details = [item.detail for item in report.by_kind['annotation']]
    assert details[0].startswith(f'{prepared / "train.txt"}:1: ')
    assert 'no such file' in next(detail for detail in details if 'val.txt' in detail)
    folds = [detail for detail in details if detail.startswith(str(prepared / 'fold0'))]
    assert sum(item.count for item in report.by_kind['annotation']) == 51 + 1 + len(folds)
    assert folds
    assert [item.paths for item in report.by_kind['empty']] == [('val/rose/empty.png',)]
    (prepared / 'classes.txt').unlink()
    (finding,) = check(prepared).by_kind['annotation']
    assert 'classes.txt: no such file' in finding.detail


def test_photos_that_differ_from_the_manifest(prepared, draw):
    first, second, *_ = sorted((prepared / 'train' / 'rose').iterdir())
    draw(900).save(first)
    second.unlink()
    draw(901).save(prepared / 'train' / 'rose' / 'zzz.png')
    findings = check(prepared).by_kind
    assert [(item.paths, item.detail) for item in findings['manifest']] == [
        ((f'train/rose/{first.name}',), 'changed since the split'),
        ((f'train/rose/{second.name}',), 'missing since the split'),
        (('train/rose/zzz.png',), 'added since the split'),
    ]


def test_imbalance_comes_with_the_weights(raw, draw):
    for seed in range(200, 207):
        draw(seed).save(raw / 'rose' / f'{seed}.png')
    report = check(raw)
    assert list(report.by_kind) == ['imbalance']
    assert report.findings[0].detail == 'rose has 13 photos, daisy 6: 2.2 times as many'
    assert report.class_weights == {'daisy': 1.583, 'rose': 0.731}  # each times its count is 9.5, within rounding
    assert class_weights([5, 0]) == [0.5, 0.0]


def test_a_dataset_whose_own_name_is_not_utf8(raw):
    odd = raw.rename(raw.parent / os.fsdecode(b'\xff'))
    report = check(odd)
    assert report.findings == []
    for suffix in SUFFIXES:
        write_out(raw.parent / f'report{suffix}', format_report(report, suffix))
    assert json.loads((raw.parent / 'report.json').read_text())['data'] == str(odd)
