"""What is found in whole folders: raw and prepared, copies, leaks, conflicts, balance, and a hostile one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from custom_modules.datasets.annotation import read_classes
from custom_modules.datasets.check_report import format_report
from custom_modules.datasets.dataset_checks import (
    KINDS,
    CheckReport,
    check_dataset,
    class_weights,
    weights_option,
)
from custom_modules.datasets.indexing import index_prepared
from custom_modules.datasets.splitting import split_dataset
from custom_modules.errors import InputError
from custom_modules.report_file import write_out


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
    """The same, split: four to train and two to validate in each class."""
    split_dataset(raw, raw.parent / 'data', ratio=0.7)
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
    report = check(prepared)
    assert (report.findings, report.has_problems, report.prepared) == ([], False, True)
    assert report.counts == {'train': {'daisy': 4, 'rose': 4}, 'val': {'daisy': 2, 'rose': 2}}
    assert report.photos == 12


def test_notes_alone_are_no_problems(raw, draw):
    draw(7).convert('L').save(raw / 'rose' / 'grey.png')
    report = check(raw)
    assert list(report.by_kind) == ['grey']
    assert not report.has_problems


def test_copies_in_a_class(raw):
    shutil.copy(raw / 'rose' / 'rose0.png', raw / 'rose' / 'copy.png')
    assert found(raw) == {'exact_duplicate': [('rose/copy.png', 'rose/rose0.png')]}


def test_near_duplicates_in_a_class(raw, draw):
    draw(100).resize((96, 72)).save(raw / 'rose' / 'larger.jpg', quality=80)
    assert found(raw) == {'near_duplicate': [('rose/larger.jpg', 'rose/rose0.png')]}


def test_near_duplicates_that_a_split_kept_together_are_no_problem(raw, draw):
    draw(100).save(raw / 'rose' / 'other.jpg', quality=90)
    split_dataset(raw, raw.parent / 'data', ratio=0.7)
    report = check(raw.parent / 'data')
    assert list(report.by_kind) == ['near_duplicate_one_side']
    assert not report.has_problems


def test_copies_stand_together_with_what_looks_like_them(raw, draw):
    shutil.copy(raw / 'rose' / 'rose0.png', raw / 'rose' / 'copy.png')
    draw(100).save(raw / 'rose' / 'other.jpg', quality=90)
    assert found(raw)['near_duplicate'] == [('rose/copy.png', 'rose/other.jpg', 'rose/rose0.png')]


def test_label_conflicts(raw, draw):
    shutil.copy(raw / 'rose' / 'rose0.png', raw / 'daisy' / 'other.png')
    draw(101).save(raw / 'daisy' / 'alike.jpg', quality=90)
    assert found(raw) == {
        'conflict_content': [('daisy/other.png', 'rose/rose0.png')],
        'conflict_look': [('daisy/alike.jpg', 'rose/rose1.png')],
    }


def test_leaks_by_name_content_and_look(prepared):
    train = sorted((prepared / 'train' / 'rose').iterdir())
    name, content = train[0].name, train[1].name
    shutil.copy(train[0], prepared / 'val' / 'rose')
    shutil.copy(train[1], prepared / 'val' / 'rose' / 'renamed.png')
    from PIL import Image

    Image.open(train[2]).save(prepared / 'val' / 'rose' / 'look.jpg', quality=90)
    (prepared / 'manifest.json').unlink()
    listed = [path.name for path in (prepared / 'val' / 'rose').iterdir()]
    assert len(listed) == 5
    report = found(prepared)
    assert report.pop('unlisted')
    assert report == {
        'leak_name': [(f'train/rose/{name}', f'val/rose/{name}')],
        'leak_content': [(f'train/rose/{content}', 'val/rose/renamed.png')],
        'leak_look': [(f'train/rose/{train[2].name}', 'val/rose/look.jpg')],
    }


def test_a_leak_into_another_class_is_a_conflict_too(prepared):
    photo = min((prepared / 'train' / 'rose').iterdir())
    shutil.copy(photo, prepared / 'val' / 'daisy' / 'copy.png')
    (prepared / 'manifest.json').unlink()
    index_prepared(prepared)
    pair = [(f'train/rose/{photo.name}', 'val/daisy/copy.png')]
    assert found(prepared) == {'leak_content': pair, 'conflict_content': pair}


def test_annotation_errors_are_found_all_at_once_beside_the_others(prepared):
    train = (prepared / 'train.txt').read_text().splitlines()
    (prepared / 'train.txt').write_text('\n'.join([train[0][:-1] + '7', 'lily/a.png 0', *train[2:]]))
    (prepared / 'val' / 'rose' / 'empty.png').touch()
    report = check(prepared)
    assert [item.detail.split(': ', 1)[0][-11:] for item in report.by_kind['annotation']] == [
        'train.txt:1',
        'train.txt:2',
    ]
    assert [item.paths for item in report.by_kind['empty']] == [('val/rose/empty.png',)]


def test_more_annotation_errors_than_are_printed_are_counted(prepared):
    (prepared / 'train.txt').write_text(''.join(f'lily/{number}.png 0\n' for number in range(50)))
    assert sum(item.count for item in check(prepared).by_kind['annotation']) == 50


@pytest.mark.parametrize('missing', ['classes.txt', 'train.txt', 'val.txt'])
def test_missing_lists_are_found(prepared, missing):
    (prepared / missing).unlink()
    (finding,) = check(prepared).by_kind['annotation']
    assert missing in finding.detail
    assert 'no such file' in finding.detail


def test_lists_of_folds(raw):
    data = raw.parent / 'folds'
    split_dataset(raw, data, ratio=0.7, folds=2)
    assert found(data) == {}
    shutil.copy(data / 'fold0' / 'train.txt', data / 'fold0' / 'val.txt')
    assert {item.detail.split(':')[0] for item in check(data).by_kind['annotation']} == {'fold0'}


def test_photos_that_are_not_those_of_the_manifest(prepared, draw):
    train = sorted((prepared / 'train' / 'rose').iterdir())
    draw(900).save(train[0])
    draw(901).save(prepared / 'train' / 'rose' / 'zzz.png')
    findings = check(prepared).by_kind
    assert [(item.paths, item.detail) for item in findings['manifest']] == [
        ((f'train/rose/{train[0].name}',), 'changed since the split'),
        (('train/rose/zzz.png',), 'added since the split'),
    ]
    assert [item.paths for item in findings['unlisted']] == [('train/rose/zzz.png',)]


def test_counts_and_weights_stand_in_label_order(prepared):
    classes = ['rose', 'daisy']
    (prepared / 'classes.txt').write_text(''.join(f'{name}\n' for name in classes))
    report = check(prepared)
    assert read_classes(prepared / 'classes.txt') == list(report.class_weights) == classes


def test_imbalance_comes_with_the_weights(raw, draw):
    for seed in range(200, 207):
        draw(seed).save(raw / 'rose' / f'{seed}.png')
    report = check(raw)
    assert list(report.by_kind) == ['imbalance']
    assert report.findings[0].detail == (
        "rose has 13 photos, daisy 6: 2.2 times as many; --cfg-options 'model.head.loss.class_weight=[1.583,0.731]'"
    )
    assert report.class_weights == {'daisy': 1.583, 'rose': 0.731}


def test_weighted_classes_count_alike():
    weights = class_weights({'a': 10, 'b': 30, 'c': 60})
    # Rounded to three decimals, so the heaviest class is off by half of the last one at most.
    assert [weights[name] * count for name, count in (('a', 10), ('b', 30), ('c', 60))] == pytest.approx(
        [100 / 3] * 3, abs=0.03
    )
    assert class_weights({'a': 5, 'b': 0}) == {'a': 0.5, 'b': 0.0}


def test_the_weights_option_is_one_that_training_takes():
    from mmengine.config import Config
    from mmpretrain.registry import MODELS

    from custom_modules.engine.run_config import parse_options, read_config

    option = weights_option([1.0, 0.5, 2.0, 1.0, 1.0]).removeprefix('--cfg-options ').strip("'")
    for config in sorted(Path('configs').glob('*.py')):
        cfg = read_config(str(config), parse_options([option]), None, None)
        assert isinstance(cfg, Config)
        assert cfg.model.head.loss.class_weight == [1.0, 0.5, 2.0, 1.0, 1.0]
        assert MODELS.build(cfg.model.head.loss).class_weight == [1.0, 0.5, 2.0, 1.0, 1.0]


@pytest.mark.parametrize('name', ['nowhere', 'empty', 'file'])
def test_what_holds_no_photos_is_refused(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(InputError) as error:
        check(tmp_path / name)
    assert name in error.value.problems[0]


def test_a_folder_of_photos_without_classes_is_refused_with_what_to_do(raw):
    with pytest.raises(InputError, match='point at the folder above'):
        check(raw / 'rose')


def test_every_kind_says_what_to_do():
    assert all(kind.title and kind.advice and kind.severity in ('error', 'warning', 'note') for kind in KINDS.values())


def test_a_dataset_whose_own_name_is_not_utf8(raw):
    odd = raw.rename(raw.parent / os.fsdecode(b'\xff'))
    report = check(odd)
    assert report.findings == []
    for name in ('report.html', 'report.csv', 'report.json'):
        write_out(raw.parent / name, format_report(report, Path(name).suffix))
    assert json.loads((raw.parent / 'report.json').read_text())['data'] == str(odd)
