"""Splitting: the contents of a prepared dataset, and refusals that write nothing."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from custom_modules.datasets import splitting
from custom_modules.datasets.annotation import SIDES, check_disjoint, read_classes, read_samples
from custom_modules.datasets.prepared_dataset import read_prepared
from custom_modules.datasets.splitting import MODES, split_dataset
from custom_modules.errors import InputError

REPO = Path(__file__).parents[2]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two classes of ten small photos."""
    return make(tmp_path / 'raw', {'rose': 10, 'daisy': 10})


def make(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            draw(folder / name / f'{number:03}.jpg')
    return folder


def draw(file: Path, of: str = '') -> None:
    """Draws an image like no other, except those of the same name."""
    noise = random.Random(os.fsencode(of or f'{file.parent.name}/{file.name}')).randbytes(16 * 16)
    Image.frombytes('L', (16, 16), noise).resize((32, 32)).save(file, 'PNG')


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def refused(raw: Path, out: Path, *said: str, **options) -> None:
    """Checks that the split is refused with exactly these lines in order, and that nothing is written."""
    before = sorted(raw.parent.rglob('*'))
    with pytest.raises(InputError) as info:
        split_dataset(raw, out, **options)
    assert len(info.value.problems) == len(said), info.value.problems
    for problem, part in zip(info.value.problems, said, strict=True):
        assert part in problem
        assert '\n' not in problem
    assert sorted(raw.parent.rglob('*')) == before


def test_contents_of_the_folder(raw, tmp_path):
    out, calls = tmp_path / 'new' / 'out', []
    report = split_dataset(raw, out, progress=lambda *call: calls.append(call))
    assert calls == [(step, done, 20) for step in ('comparing', 'copying') for done in range(1, 21)]
    assert {path.name for path in out.iterdir()} == {*SIDES, 'classes.txt', 'manifest.json', 'train.txt', 'val.txt'}
    prepared = read_prepared(out)
    assert prepared.classes == ['daisy', 'rose']
    assert sorted(path for path, _ in prepared.train + prepared.val) == [
        f'{name}/{number:03}.jpg' for name in prepared.classes for number in range(10)
    ]
    manifest = json.loads((out / 'manifest.json').read_bytes())
    assert (manifest['seed'], manifest['ratio'], manifest['classes']) == (0, 0.8, prepared.classes)
    assert report.counts == {'train': {'daisy': 8, 'rose': 8}, 'val': {'daisy': 2, 'rose': 2}}
    assert (manifest['counts'], manifest['digest'], prepared.digest) == (report.counts, report.digest, report.digest)
    assert all(re.fullmatch('[0-9a-f]{80}', entry['phash']) for entry in manifest['files'].values())
    assert {name: entry['sha256'] for name, entry in manifest['files'].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in tree(out).items() if name.endswith('.jpg')
    }
    assert str(tmp_path) not in (out / 'manifest.json').read_text()


def test_repeated_content_and_unreadable_photos_are_left_out(raw, tmp_path):
    copied = (raw / 'rose' / '003.jpg').read_bytes()
    (raw / 'rose' / '001 copy.jpg').write_bytes((raw / 'rose' / '001.jpg').read_bytes())
    for path in ('daisy/x.jpg', 'rose/z.jpg'):
        (raw / path).write_bytes(copied)
    (raw / 'daisy' / 'text.jpg').write_text('no picture')
    report = split_dataset(raw, tmp_path / 'out')
    assert report.left_out == [
        ('daisy/text.jpg', 'no picture, or of a kind that training cannot read'),
        ('daisy/x.jpg', 'same content as rose/003.jpg, of another class'),
        ('rose/001.jpg', 'same content as rose/001 copy.jpg'),
        ('rose/003.jpg', 'same content as daisy/x.jpg, of another class'),
        ('rose/z.jpg', 'same content as daisy/x.jpg, of another class'),
    ]
    assert report.has_problems
    assert report.counts == {'train': {'daisy': 8, 'rose': 7}, 'val': {'daisy': 2, 'rose': 2}}
    manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_bytes())
    assert [(item['path'], item['reason']) for item in manifest['left_out']] == report.left_out
    everything = split_dataset(raw, tmp_path / 'all', keep_all=True)
    assert (everything.left_out, sum(everything.counts['train'].values())) == ([], 9 + 9)
    for path in (raw / 'rose').iterdir():
        path.write_text('no picture')
    said = "class 'rose': none of its photos can be used, as rose/000.jpg (no picture"
    refused(raw, tmp_path / 'no', said)


@pytest.mark.parametrize('seed', [0, 1])
def test_near_duplicates_stay_together_and_are_reported(raw, tmp_path, seed):
    original = Image.open(raw / 'rose' / '000.jpg')
    for path, quality in (('rose/light.jpg', 95), ('rose/quality.jpg', 50), ('daisy/conflict.jpg', 80)):
        original.point(lambda value: 20 + value * 0.9).save(raw / path, quality=quality)
    out = tmp_path / 'out'
    report = split_dataset(raw, out, seed=seed, folds=2, ratio=0.6)
    (group,) = json.loads((out / 'manifest.json').read_bytes())['groups']
    assert all((out / path).is_file() for path in group)
    (side,) = {path.split('/')[0] for path in group}
    alike = ('daisy/conflict.jpg', 'rose/000.jpg', 'rose/light.jpg', 'rose/quality.jpg')
    assert sorted(group) == [f'{side}/{path}' for path in alike]
    assert report.notes == ['near-duplicates: 1 group(s) of 4 photos, each in one subset; see manifest.json']
    assert report.warnings[0].startswith('near-duplicates in different classes, one label may be wrong: daisy/con')
    assert report.has_problems
    assert report.counts['train'] == {'daisy': 6, 'rose': 7}


def test_folds_are_lists_over_train(raw, tmp_path):
    out = tmp_path / 'out'
    digest = split_dataset(raw, out, folds=4).digest
    classes = read_classes(out / 'classes.txt')
    train = read_samples(out / 'train.txt', classes)
    validated = []
    for number in range(4):
        parts = [read_samples(out / f'fold{number}' / f'{side}.txt', classes, out / 'train') for side in SIDES]
        check_disjoint(out, *parts)
        assert sorted(parts[0] + parts[1]) == train
        assert [sum(sample.label == label for sample in parts[1]) for label in (0, 1)] == [2, 2]
        validated += parts[1]
    assert sorted(validated) == train
    assert not (out / 'fold4').exists()
    assert split_dataset(raw, tmp_path / 'without').digest == digest
    refused(raw, tmp_path / 'no', '1 folds: two or more', folds=1)
    refused(raw, tmp_path / 'no', "class 'daisy': its 8 photo(s) in train", "class 'rose'", folds=9)


def test_folders_can_be_renamed_and_merged(tmp_path):
    raw = make(tmp_path / 'raw', {'roses': 5, 'daisy': 5, 'tulips 2': 5, 'wild': 0})
    for number in range(4):
        draw(raw / 'wild' / f'w{number}.jpg')
    out = tmp_path / 'out'
    report = split_dataset(raw, out, rename={'roses': 'rose', 'tulips 2': 'tulip', 'wild': 'rose'})
    assert report.counts == {'train': {'daisy': 4, 'rose': 7, 'tulip': 4}, 'val': {'daisy': 1, 'rose': 2, 'tulip': 1}}
    for file in out.glob('*/rose/*'):
        source = raw / ('wild' if file.name.startswith('w') else 'roses') / file.name
        assert file.read_bytes() == source.read_bytes()
    (raw / 'daisy').rename(raw / 'Ga\u0308nseblu\u0308mchen')  # as macOS stores it
    report = split_dataset(
        raw, tmp_path / 'merged', rename={'Gänseblümchen': 'rose', 'roses': 'rose', 'tulips 2': 'tulip'}
    )
    assert (report.counts['train']['rose'], report.photos) == (8, 19)
    assert report.notes == ['5 images of merged folders got another name; see manifest.json']
    renamed = json.loads((tmp_path / 'merged' / 'manifest.json').read_bytes())['renamed']
    assert sorted(renamed.values()) == [f'roses/00{number}.jpg' for number in range(5)]
    for name, source in renamed.items():
        assert name.endswith(f'/rose/{Path(source).stem}_2.jpg')
        assert (tmp_path / 'merged' / name).read_bytes() == (raw / source).read_bytes()
    refused(
        raw,
        tmp_path / 'no',
        '--rename roses=a/b: ',
        "--rename: no class folder 'rosses'. Did you mean 'roses'?",
        rename={'roses': 'a/b', 'tulips 2': 'daisy', 'rosses': 'rose'},
    )


def test_the_same_photos_give_the_same_bytes_and_others_another_digest(raw, tmp_path, monkeypatch):
    digest = split_dataset(raw, tmp_path / 'a').digest
    listdir = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda folder: sorted(listdir(folder), key=lambda name: name[::-1]))
    split_dataset(raw, tmp_path / 'same')
    assert tree(tmp_path / 'same') == tree(tmp_path / 'a')
    (raw / '.DS_Store').touch()
    assert split_dataset(raw, tmp_path / 'b', mode='symlink').digest == digest
    assert split_dataset(raw, tmp_path / 'c', seed=1).digest != digest
    draw(raw / 'rose' / '000.jpg', of='another')
    assert split_dataset(raw, tmp_path / 'd').digest != digest


@pytest.mark.parametrize('mode', MODES)
def test_modes_place_the_same_photos(raw, tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    Path('out').mkdir()  # an empty folder is used
    split_dataset(Path('raw'), Path('out'), mode=mode)
    photo = next((tmp_path / 'out' / 'train' / 'rose').iterdir())
    original = raw / 'rose' / photo.name
    assert photo.read_bytes() == original.read_bytes()
    assert photo.samefile(original) == (mode != 'copy')
    assert photo.is_symlink() == (mode == 'symlink')
    if mode == 'symlink':
        assert os.readlink(photo) == str(original.resolve())


def test_unusable_raw_folders_are_refused(tmp_path):
    out = tmp_path / 'out'
    refused(tmp_path / 'absent', out, 'absent: no such folder')
    (tmp_path / 'file').touch()
    refused(tmp_path / 'file', out, 'file: not a folder')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', out, 'no class folders. Expected are <class>/<photo>')
    parent = make(tmp_path / 'parent' / 'flowers', {'rose': 3, 'daisy': 3}).parent
    refused(parent, out, f'If its subfolders are the classes, point at {parent / "flowers"}')
    refused(parent / 'flowers' / 'rose', out, 'It holds photos itself: point at the folder above')
    refused(make(tmp_path / 'one', {'rose': 5}), out, 'two or more classes are needed, found: rose')
    refused(make(tmp_path / 'prepared', {'train': 0, 'val': 0}), out, 'holds train/, val/, so it is a prepared')
    kaggle = make(tmp_path / 'kaggle', {'train': 0, 'valid': 0, 'test': 0})
    refused(kaggle, out, f'run python tools/generate_metadata.py {kaggle}')


def test_all_unusable_classes_are_refused_at_once(tmp_path):
    names = {
        'rose': 5,
        'Rose': 5,
        'daisy 0': 5,
        'Test': 5,
        'tulip': 0,
        'ro\nse': 1,
        os.fsdecode(b'r\xf4se'): 1,
        'é': 1,
        'e\u0301': 1,
    }
    raw = make(tmp_path / 'raw', names)
    (raw / 'rose' / '000.JPG').touch()
    refused(
        raw,
        tmp_path / 'out',
        "'Test' is a part of the split",
        "class folder 'daisy 0' ends in a number",
        r"class folder 'ro\nse' holds",
        r"class folder 'r\udcf4se' is not UTF-8",
        "'000.JPG' and '000.jpg' differ only in case",
        'tulip: no photos',
        "'Rose' and 'rose' differ only in case",
        r"differ only in how accents are stored ('e\u0301' and '\xe9')",
    )
    small = make(tmp_path / 'small', {'rose': 1, 'daisy': 9, 'tulip': 20})
    refused(small, tmp_path / 'out', "'daisy': 9 photo(s)", "'rose': 1 photo(s) at ratio 0.1", ratio=0.1)


def test_unusable_options_and_output_folders_are_refused(raw, tmp_path):
    used = make(tmp_path / 'used', {'train': 1})
    refused(raw, used, 'never mixed in', 'ratio 2', ratio=2)
    refused(raw, used / 'train' / '000.jpg', 'exists and is no folder')
    for out in (raw, raw / 'out', raw / 'rose', tmp_path, tmp_path / 'used' / '..' / 'raw'):
        refused(raw, out, 'or the other way round')
    for ratio in (0, 1, -0.5, float('nan'), float('inf')):
        refused(raw, tmp_path / 'out', 'is not between 0 and 1', ratio=ratio)


def test_changes_meanwhile_are_refused(raw, tmp_path):
    def change(step, done, total):
        if (step, done) == ('comparing', total):
            draw(raw / 'rose' / '000.jpg', of=str(tmp_path))

    def interfere(step, done, total):
        if (step, done) == ('copying', total):
            make(tmp_path / 'out', {'mine': 1})

    refused(raw, tmp_path / 'out', '000.jpg: changed while it was split', progress=change)
    with pytest.raises(InputError, match='never mixed in'):
        split_dataset(raw, tmp_path / 'out', progress=interfere)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine']


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt(), InputError('bad')])
def test_a_failure_in_the_middle_leaves_nothing(raw, tmp_path, monkeypatch, error):
    def fail(source, target):
        if len(list(target.parent.iterdir())) == 3:
            raise error
        shutil.copyfile(source, target)

    monkeypatch.setitem(splitting.MODES, 'copy', fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError):
        split_dataset(raw, tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['raw']


@pytest.mark.parametrize(('step', 'done', 'left'), [('comparing', 16, 0), ('copying', 1, 1), ('copying', 20, 1)])
def test_a_kill_leaves_no_output(raw, tmp_path, step, done, left):
    code = (
        'import os, signal, sys; from pathlib import Path\n'
        'from custom_modules.datasets.splitting import split_dataset\n'
        f'die = lambda *call: call == ({step!r}, {done}, 20) and os.kill(os.getpid(), signal.SIGKILL)\n'
        'split_dataset(Path(sys.argv[1]), Path(sys.argv[2]), progress=die)'
    )
    out = tmp_path / 'out'
    assert subprocess.run([sys.executable, '-c', code, raw, out], cwd=REPO).returncode == -signal.SIGKILL
    names = [path.name for path in tmp_path.iterdir() if path != raw]
    assert [name[:5] for name in names] == ['.out.'] * left
    split_dataset(raw, out)
    assert len(read_prepared(out).train) == 16


def test_the_tool_prints_counts_and_the_next_commands(raw, tmp_path, call):
    (raw / '.DS_Store').touch()
    result = call('split_dataset', raw, tmp_path / 'out', '--folds', 2)
    assert (result.code, result.err) == (0, '')
    lines = result.out.splitlines()
    assert lines[0] == 'left out: .DS_Store (hidden or system file)'
    assert [line.split() for line in lines[1:5]] == [
        ['class', 'train', 'val'],
        ['daisy', '8', '2'],
        ['rose', '8', '2'],
        ['total', '16', '4'],
    ]
    assert re.fullmatch(r'20 photos in \d+\.\d s: \d+ photos/s', lines[5])
    assert lines[-2].startswith('next: python tools/train.py')
    assert lines[-1].startswith('on the folds: python tools/cross_validate.py')
    (raw / 'rose' / 'notes.txt').touch()
    options = ['--ratio', 0.5, '--seed', 7, '--mode', 'symlink', '--rename', 'rose=a']
    assert call('split_dataset', raw, 'options', *options).code == 1
    assert len(list((tmp_path / 'options' / 'val' / 'a').iterdir())) == 5
    for pairs in (['rose'], ['=rose'], ['rose='], ['rose=a', 'rose=b']):
        result = call('split_dataset', raw, 'no', '--rename', *pairs)
        assert result.err.splitlines() == [
            f'error: --rename {pair}: FOLDER=CLASS is expected, once per folder. Write it as roses=rose.'
            for pair in pairs
        ]
    assert not (tmp_path / 'no').exists()
