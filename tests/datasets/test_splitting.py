"""Splitting: which photo goes where, what appears on disk, and what is refused without writing anything."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from custom_modules.datasets import splitting
from custom_modules.datasets.annotation import SIDES, check_disjoint, read_classes, read_samples
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.datasets.raw_folders import HIDDEN
from custom_modules.datasets.splitting import MODES, split_dataset
from custom_modules.errors import InputError

REPO = Path(__file__).parents[2]
FLOWERS = {'daisy': 588, 'dandelion': 556, 'rose': 583, 'sunflower': 536, 'tulip': 585}


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
    """Draws a picture that is like no other, but for those of the same name."""
    noise = random.Random(of or f'{file.parent.name}/{file.name}').randbytes(16 * 16)
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


def test_the_assignment_gives_2276_and_572_photos(tmp_path):
    report = split_dataset(make(tmp_path / 'raw', FLOWERS), tmp_path / 'out', mode='hardlink', keep_all=True)
    assert report.counts['val'] == {'daisy': 118, 'dandelion': 112, 'rose': 117, 'sunflower': 108, 'tulip': 117}
    assert [sum(report.counts[side].values()) for side in ('train', 'val')] == [2276, 572]
    assert len((tmp_path / 'out' / 'train.txt').read_text().splitlines()) == 2276


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
    everything = split_dataset(raw, tmp_path / 'all', keep_all=True)
    assert (everything.left_out, sum(everything.counts['train'].values())) == ([], 9 + 9)


def test_nothing_left_of_a_class_is_refused_with_the_reason(raw, tmp_path):
    for number in range(10):
        (raw / 'rose' / f'{number:03}.jpg').write_text('no picture')
    refused(raw, tmp_path / 'out', "class 'rose': none of its 10 photo(s) can be used, as rose/000.jpg (no picture")


def test_near_duplicates_stay_together_and_are_reported(raw, tmp_path):
    original = Image.open(raw / 'rose' / '000.jpg')
    for path, quality in (('rose/light.jpg', 95), ('rose/quality.jpg', 50), ('daisy/conflict.jpg', 80)):
        original.point(lambda value: 20 + value * 0.9).save(raw / path, quality=quality)
    for seed in range(5):
        out = tmp_path / f'out{seed}'
        report = split_dataset(raw, out, seed=seed, folds=2, ratio=0.6)
        (group,) = json.loads((out / 'manifest.json').read_bytes())['groups']
        assert sorted(path.split('/', 1)[1] for path in group) == [
            'daisy/conflict.jpg', 'rose/000.jpg', 'rose/light.jpg', 'rose/quality.jpg',
        ]  # fmt: skip
        assert len({path.split('/')[0] for path in group}) == 1
        assert all((out / path).is_file() for path in group)
        assert report.notes == ('near-duplicates: 1 group(s) of 4 photos, each in one subset; see manifest.json',)
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
        check_disjoint(*parts)
        assert sorted(parts[0] + parts[1]) == train
        assert [sum(sample.label == label for sample in parts[1]) for label in (0, 1)] == [2, 2]
        validated += parts[1]
    assert sorted(validated) == train
    assert not (out / 'fold4').exists()
    assert split_dataset(raw, tmp_path / 'without').digest == digest
    refused(raw, tmp_path / 'no', '1 folds: two or more', folds=1)
    refused(raw, tmp_path / 'no', "class 'daisy': its 8 photo(s) in train", "class 'rose'", folds=9)


def test_folders_can_be_renamed_and_merged(tmp_path):
    raw = make(tmp_path / 'raw', {'roses': 5, 'daisy': 5, 'tulips 2': 5})
    for file in sorted((make(tmp_path / 'more', {'wild': 4}) / 'wild').iterdir()):
        (raw / 'wild').mkdir(exist_ok=True)
        file.rename(raw / 'wild' / f'w{file.name}')
    (raw / 'wild' / 'notes.txt').touch()
    out = tmp_path / 'out'
    report = split_dataset(raw, out, rename={'roses': 'rose', 'tulips 2': 'tulip', 'wild': 'rose'})
    assert report.counts == {'train': {'daisy': 4, 'rose': 7, 'tulip': 4}, 'val': {'daisy': 1, 'rose': 2, 'tulip': 1}}
    assert [path for path, _ in report.left_out] == ['wild/notes.txt']
    for side in SIDES:
        for file in (out / side / 'rose').iterdir():
            source = raw / ('wild' if file.name.startswith('w') else 'roses') / file.name
            assert file.read_bytes() == source.read_bytes()
    swapped = split_dataset(raw, tmp_path / 'swap', rename={'roses': 'daisy', 'daisy': 'roses', 'tulips 2': 'tulip'})
    assert list(swapped.counts['train']) == ['daisy', 'roses', 'tulip', 'wild']
    draw(raw / 'roses' / 'W000.jpg')
    refused(
        raw,
        tmp_path / 'no',
        '--rename roses=a/b: ',
        'tulips 2/000.jpg and daisy/000.jpg would both become daisy/000.jpg',
        *(f'tulips 2/00{n}.jpg and daisy' for n in range(1, 5)),
        "--rename: no class folder 'rosses': did you mean 'roses'?",
        rename={'roses': 'a/b', 'tulips 2': 'daisy', 'rosses': 'rose'},
    )
    refused(
        raw, tmp_path / 'no', "'W000.jpg' and 'w000.jpg' differ only in case",
        rename={'roses': 'rose', 'wild': 'rose', 'tulips 2': 'tulip'},
    )  # fmt: skip


def test_a_photo_that_changes_meanwhile_is_refused(raw, tmp_path):
    def meddle(step, done, total):
        if step == 'comparing' and done == total:
            draw(raw / 'rose' / '000.jpg', of='another')

    refused(raw, tmp_path / 'out', '000.jpg: changed while it was split', progress=meddle)


def test_what_is_written_is_the_contract(raw, tmp_path):
    report = split_dataset(raw, tmp_path / 'new' / 'out')
    out = tmp_path / 'new' / 'out'
    assert sorted(path.name for path in out.iterdir()) == [
        'classes.txt', 'manifest.json', 'train', 'train.txt', 'val', 'val.txt',
    ]  # fmt: skip
    assert (out / 'classes.txt').read_bytes() == b'daisy\nrose\n'
    classes = read_classes(out / 'classes.txt')
    train, val = (read_samples(out / f'{side}.txt', classes, out / side) for side in ('train', 'val'))
    check_disjoint(train, val)
    assert sorted(path for path, _ in train + val) == sorted(
        f'{name}/{i:03}.jpg' for name in classes for i in range(10)
    )
    manifest = json.loads((out / 'manifest.json').read_bytes())
    assert (manifest['seed'], manifest['ratio'], manifest['classes']) == (0, 0.8, classes)
    assert (
        manifest['counts']
        == report.counts
        == {side: dict.fromkeys(classes, n) for side, n in (('train', 8), ('val', 2))}
    )
    photos = {name: content for name, content in tree(out).items() if name.endswith('.jpg')}
    assert all(re.fullmatch('[0-9a-f]{80}', entry['phash']) for entry in manifest['files'].values())
    assert {name: entry['sha256'] for name, entry in manifest['files'].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in photos.items()
    }
    assert manifest['digest'] == report.digest == read_manifest_digest(out)
    assert str(tmp_path) not in (out / 'manifest.json').read_text()


def test_the_same_photos_give_the_same_bytes_however_they_are_listed(raw, tmp_path, monkeypatch):
    split_dataset(raw, tmp_path / 'a', seed=3)
    listdir = os.listdir
    monkeypatch.setattr(
        os, 'listdir', lambda folder: sorted(listdir(folder), key=lambda name: name[::-1], reverse=True)
    )
    split_dataset(raw, tmp_path / 'b', seed=3)
    assert tree(tmp_path / 'a') == tree(tmp_path / 'b')


def test_the_digest_names_the_data_not_how_it_was_placed(raw, tmp_path):
    digest = split_dataset(raw, tmp_path / 'a').digest
    (raw / '.DS_Store').touch()
    assert split_dataset(raw, tmp_path / 'b', mode='symlink').digest == digest
    assert split_dataset(raw, tmp_path / 'c', seed=1).digest != digest
    draw(raw / 'rose' / '000.jpg', of='another')
    assert split_dataset(raw, tmp_path / 'd').digest != digest


@pytest.mark.parametrize('mode', MODES)
def test_modes_place_the_same_photos(raw, tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    split_dataset(Path('raw'), Path('out'), mode=mode)
    photo = next((tmp_path / 'out' / 'train' / 'rose').iterdir())
    original = raw / 'rose' / photo.name
    assert photo.read_bytes() == original.read_bytes()
    assert photo.samefile(original) == (mode != 'copy')
    assert photo.is_symlink() == (mode == 'symlink')
    if mode == 'symlink':
        assert os.readlink(photo) == str(original.resolve())


def test_progress_counts_every_photo(raw, tmp_path):
    calls = []
    split_dataset(raw, tmp_path / 'out', progress=lambda *call: calls.append(call))
    assert calls == [('comparing', 16, 20), ('comparing', 20, 20), *(('copying', done, 20) for done in range(1, 21))]


def test_what_is_no_photo_is_listed_with_its_reason(raw, tmp_path):
    (raw / 'readme.txt').touch()
    (raw / '.DS_Store').touch()
    (raw / 'linked').symlink_to(raw / 'rose')
    rose = raw / 'rose'
    for name in ('Thumbs.db', '._000.jpg', 'notes.txt', 'a\nb.jpg', 'back\\slash.jpg', os.fsdecode(b'\xe9.jpg')):
        (rose / name).touch()
    (rose / 'more').mkdir()
    (rose / 'link').symlink_to(raw / 'daisy')
    (rose / 'gone.jpg').symlink_to(raw / 'gone.jpg')
    draw(rose / 'PHOTO.JPEG')
    report = split_dataset(raw, tmp_path / 'out')
    assert {path: reason.split(';')[0].split(':')[0] for path, reason in report.left_out} == {
        '.DS_Store': HIDDEN,
        'linked': 'link to a folder',
        'readme.txt': 'not in a class folder',
        'rose/Thumbs.db': HIDDEN,
        'rose/._000.jpg': HIDDEN,
        'rose/a\\nb.jpg': 'its name does not fit the annotation format',
        'rose/back\\slash.jpg': 'its name does not fit the annotation format',
        'rose/\\udce9.jpg': 'its name does not fit the annotation format',
        'rose/gone.jpg': 'broken link',
        'rose/link': 'link to a folder',
        'rose/more': 'folder inside a class folder',
        'rose/notes.txt': 'no photo by its suffix',
    }
    assert all(f'left out: {path} ({reason})' in str(report).splitlines() for path, reason in report.left_out)
    assert report.has_problems
    assert sum(report.counts[side]['rose'] for side in report.counts) == 11
    manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_bytes())
    assert [(item['path'], item['reason']) for item in manifest['left_out']] == report.left_out


def test_refuses_unusable_raw_folders(tmp_path):
    out = tmp_path / 'out'
    refused(tmp_path / 'absent', out, 'absent: no such folder')
    (tmp_path / 'file').touch()
    refused(tmp_path / 'file', out, 'file: not a folder')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', out, 'no class folders; expected are <class>/<photo>')
    parent = make(tmp_path / 'parent' / 'flowers', {'rose': 3, 'daisy': 3}).parent
    refused(parent, out, f'if its subfolders are the classes, point at {parent / "flowers"}')
    refused(parent / 'flowers' / 'rose', out, 'it holds photos itself: point at the folder above')
    refused(make(tmp_path / 'one', {'rose': 5}), out, 'two or more classes are needed, found: rose')


def test_refuses_a_prepared_folder_as_raw(raw, tmp_path):
    split_dataset(raw, tmp_path / 'prepared')
    refused(tmp_path / 'prepared', tmp_path / 'out', 'holds train/ and val/, so it is a prepared dataset')
    refused(make(tmp_path / 'other', {'Test': 5, 'rose': 5}), tmp_path / 'out', "'Test' is a part of the split")


def test_refuses_all_unusable_classes_at_once(tmp_path):
    raw = make(tmp_path / 'raw', {'rose': 5, 'Rose': 5, 'daisy 0': 5, 'tulip': 0})
    (raw / 'rose' / '000.JPG').touch()
    refused(
        raw,
        tmp_path / 'out',
        "class folder 'daisy 0' ends in a number",
        'tulip: no photos',
        "'000.JPG' and '000.jpg' differ only in case",
        "'Rose' and 'rose' differ only in case",
    )


def test_refuses_classes_too_small_for_two_sides(tmp_path):
    raw = make(tmp_path / 'raw', {'rose': 1, 'daisy': 9, 'tulip': 20})
    refused(raw, tmp_path / 'out', "'daisy': 9 photo(s)", "'rose': 1 photo(s)", ratio=0.1)
    refused(raw, tmp_path / 'out', "'rose': 1 photo(s) at ratio 0.8 give 0 to train and 1 to val")


@pytest.mark.parametrize('ratio', [0, 1, -0.5, 80, float('nan'), float('inf')])
def test_refuses_ratios_that_are_no_share(raw, tmp_path, ratio):
    refused(raw, tmp_path / 'out', 'is not between 0 and 1', ratio=ratio)


def test_refuses_output_folders_that_would_mix(raw, tmp_path):
    used = make(tmp_path / 'used', {'train': 1})
    refused(raw, used, 'never mixed in')
    refused(raw, used / 'train' / '000.jpg', 'exists and is no folder')
    for out in (raw, raw / 'out', raw / 'rose', tmp_path, tmp_path / 'used' / '..' / 'raw'):
        refused(raw, out, 'or the other way round')
    refused(raw, used, 'never mixed in', 'ratio 2', 'no such mode: move', ratio=2, mode='move')


def test_an_empty_output_folder_is_used(raw, tmp_path):
    (tmp_path / 'out').mkdir()
    split_dataset(raw, tmp_path / 'out')
    assert (tmp_path / 'out' / 'manifest.json').is_file()
    with pytest.raises(InputError):
        split_dataset(raw, tmp_path / 'out')


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt(), InputError('bad')])
def test_a_failure_in_the_middle_leaves_nothing(raw, tmp_path, monkeypatch, error):
    place = splitting._place

    def fail(source, target, mode):
        if len(list(target.parent.iterdir())) == 3:
            raise error
        return place(source, target, mode)

    monkeypatch.setattr(splitting, '_place', fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError):
        split_dataset(raw, tmp_path / 'out')
    assert [path.name for path in tmp_path.iterdir()] == ['raw']


def test_a_kill_in_the_middle_leaves_no_output(raw, tmp_path):
    code = (
        'import os, signal, sys; from pathlib import Path\n'
        'from custom_modules.datasets.splitting import split_dataset\n'
        'die = lambda step, done, _: step == "copying" and done == 15 and os.kill(os.getpid(), signal.SIGKILL)\n'
        'split_dataset(Path(sys.argv[1]), Path(sys.argv[2]), progress=die)'
    )
    out = tmp_path / 'out'
    assert subprocess.run([sys.executable, '-c', code, raw, out], cwd=REPO).returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir() if path != raw]
    assert len(left) == 1
    assert left[0].startswith('.out.partial-')
    split_dataset(raw, out)


def test_links_that_cannot_be_made_name_the_way_out(raw, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(18, 'Invalid cross-device link')

    monkeypatch.setattr(os, 'link', fail)
    refused(
        raw,
        tmp_path / 'out',
        'no hardlink can be made there (Invalid cross-device link); use --mode copy',
        mode='hardlink',
    )


def test_an_output_made_meanwhile_is_kept(raw, tmp_path):
    def meddle(step, done, total):
        if step == 'copying' and done == total:
            make(tmp_path / 'out', {'mine': 1})

    with pytest.raises(InputError, match='nothing was written'):
        split_dataset(raw, tmp_path / 'out', progress=meddle)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine']
