"""tools/predict.py: the scores of a test on any photo, in any format; killed and started again, nothing is lost."""

import csv
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
CLASSES = ['daisy', 'dandelion', 'rose', 'sunflower', 'tulip']


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode('utf-8', 'surrogateescape'), newline='')))


def test_the_scores_are_those_of_a_test(best, tiny_config, data, call, tmp_path):
    odd = tmp_path / 'data'
    shutil.copytree(data, odd)
    (first, second, third, fourth) = sorted((odd / 'val').glob('*/*'))[:4]
    picture = Image.open(first).convert('RGB')
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(first, 'JPEG', exif=exif)
    Image.open(second).convert('L').save(second, 'PNG')
    Image.open(third).convert('CMYK').save(third, 'JPEG')
    Image.open(fourth).convert('RGBA').save(fourth, 'PNG')
    tested = call('test', tiny_config, best, '--data-root', odd, '--out', 'test.csv', '--work-dir', tmp_path)
    assert tested.code in (0, 1), tested
    assert call('predict', odd / 'val', '--checkpoint', best, '--out', 'predict.csv').code == 0
    for one, other in zip(table(tmp_path / 'test.csv'), table(tmp_path / 'predict.csv'), strict=True):
        assert one.pop('truth') in CLASSES
        assert {k: v for k, v in one.items() if 'score' not in k} == {
            k: v for k, v in other.items() if 'score' not in k
        }
        for name in CLASSES:
            assert float(one[f'score_{name}']) == pytest.approx(float(other[f'score_{name}']), abs=1e-5)


def test_lines_on_the_terminal_and_a_folder_for_the_unsure(best, data, call, tmp_path):
    options = ['--top-k', 2, '--sort-into', 'sorted', '--min-score', 1]
    result = call('predict', data / 'val' / 'rose', '--checkpoint', best, *options)
    assert result.code == 0
    lines = result.out.splitlines()
    assert len(lines) == 3
    for line in lines:
        path, first, second = line.split('  ')
        assert '/val/rose/' in path
        assert 1 >= float(first.split()[1]) >= float(second.split()[1]) >= 0
    assert result.err.startswith('3 photos: unsure 3\n')
    assert [path.name for path in (tmp_path / 'sorted').iterdir()] == ['unsure']
    assert len(list((tmp_path / 'sorted' / 'unsure').iterdir())) == 3


def test_what_cannot_be_read_is_listed_and_the_rest_predicted(best, data, call, tmp_path):
    photo = next((data / 'val' / 'rose').iterdir())
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'empty.jpg').touch()
    (folder / 'text.jpg').write_text('no picture')
    (folder / 'cut.png').write_bytes(photo.read_bytes()[:200])
    (folder / 'other.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic garbage')
    Image.new('1', (20000, 20000)).save(folder / 'bomb.png')
    Image.new('L', (12000, 9000)).save(folder / 'phone.jfif', 'JPEG')
    os.mkfifo(folder / 'pipe.jpg')
    (folder / 'dangling').symlink_to('gone')
    (folder / 'notes.txt').write_text('no picture')
    odd = os.fsdecode(b'in/\xff name.png')
    shutil.copy(photo, odd)
    result = call('predict', folder, '--checkpoint', best, '--out', 'a.csv', '--sort-into', 'sorted')
    assert result.code == 1
    assert f'left out    {folder}/notes.txt: not an image' in result.out
    problems = dict(
        line.removeprefix('error: ').rsplit(': ', 1) for line in result.err.splitlines() if 'error' in line
    )
    assert {Path(path).name: problem for path, problem in problems.items()} == {
        'bomb.png': 'too large, more than 89 million pixels. Resize it, or save it as JPEG',
        'cut.png': 'corrupt image, or not an image',
        'dangling': 'broken link',
        'empty.jpg': 'empty file',
        'other.heic: HEIF image that cannot be decoded here. Run': 'pip install pillow-heif',
        'pipe.jpg': 'no file',
        'text.jpg': 'corrupt image, or not an image',
    }
    assert [row['path'] for row in table(tmp_path / 'a.csv')] == [str(folder / 'phone.jfif'), str(tmp_path / odd)]
    assert {path.name for path in (tmp_path / 'sorted').glob('*/*')} == {'phone.jfif', Path(odd).name}
    named = call('predict', *folder.iterdir(), '--checkpoint', best, '--out', 'b.csv')
    assert (named.code, sorted(named.err.splitlines())) == (1, sorted(result.err.splitlines()))


def test_sorting_that_failed_goes_on(best, data, call, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    command = ['predict', data / 'val', '--checkpoint', best, '--out', 'a.csv', '--sort-into', 'sorted']
    with monkeypatch.context() as patch:
        patch.setattr('shutil.copy2', full)
        assert call(*command).code == 2
    assert not (tmp_path / 'a.csv').exists()
    result = call(*command)
    assert result.code == 0
    assert 'going on after 15 of 15 photos' in result.out
    assert len(table(tmp_path / 'a.csv')) == len(list((tmp_path / 'sorted').glob('*/*'))) == 15


def test_a_list_on_standard_input(best, data, call, tmp_path, monkeypatch):
    photos = sorted((data / 'val' / 'tulip').iterdir())
    lines = io.BytesIO('\n'.join([*map(str, photos), 'gone.jpg']).encode())
    monkeypatch.setattr('sys.stdin', SimpleNamespace(buffer=lines))
    result = call('predict', '-', '--checkpoint', best, '--out', 'a.csv')
    assert result.code == 1
    assert result.err == 'error: gone.jpg: no such file\n'
    assert [row['path'] for row in table(tmp_path / 'a.csv')] == list(map(str, photos))


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['gone'], 'gone: no such file or folder'),
        (['{data}/val', '--out', 'there.csv'], '--out there.csv: exists already'),
        (['{data}/val', '--sort-into', '{data}'], 'exists and is not empty'),
        (['{data}/val', '--sort-into', 'new', '--out', 'new/a.csv'], 'new/a.csv: lies in --sort-into new'),
        (['{data}/val', '--checkpoint', 'list.pth'], 'list.pth: holds a list, not a checkpoint'),
        (['{data}/val', '--checkpoint', 'gone.pth'], 'gone.pth: no such file'),
        (['{data}/val', '--checkpoint', 'other.pth'], 'other.pth: carries no config'),
        (['{data}/val', '--checkpoint', 'lacking.pth'], 'lacks 1 weights of its model, such as head.fc.bias'),
    ],
)
def test_unusable_input_is_one_line(best, data, call, tmp_path, arguments, said):
    (tmp_path / 'there.csv').write_text('mine')
    torch.save([1], tmp_path / 'list.pth')
    checkpoint = torch.load(best, weights_only=True)
    del checkpoint['state_dict']['head.fc.bias']
    torch.save(checkpoint, tmp_path / 'lacking.pth')
    torch.save({'state_dict': checkpoint['state_dict'], 'meta': {'classes': CLASSES}}, tmp_path / 'other.pth')
    arguments = [argument.format(data=data) for argument in arguments]
    result = call('predict', *(['--checkpoint', best] if '--checkpoint' not in arguments else []), *arguments)
    assert said in result.error
    assert (tmp_path / 'there.csv').read_text() == 'mine'


def test_killed_and_started_again_it_goes_on(best, data, call, one_thread, tool_environment, tmp_path):
    command = ['predict', data / 'val', '--checkpoint', best, '--batch-size', 2, '--workers', 0]
    call(*command, '--out', 'whole.csv')
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools' / 'predict.py'), *map(str, command[1:]), '--out', 'a.csv'],
        cwd=tmp_path,
        env=tool_environment,
    )
    journal = tmp_path / '.a.csv.part' / '0.jsonl'
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b'\n') >= 4):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'a.csv').exists()
    with journal.open('ab') as file:
        file.write(b'{"model": "')  # the kill came amid a line
    written = journal.read_bytes().count(b'\n')
    result = call(*command, '--out', 'a.csv')
    assert result.code == 0
    assert f'going on after {written} of 15 photos' in result.out
    assert table(tmp_path / 'a.csv') == table(tmp_path / 'whole.csv')
    assert not (tmp_path / '.a.csv.part').exists()


def test_two_processes_share_the_photos(best, data, call, run_process, tmp_path):
    arguments = 'predict', data / 'val', '--checkpoint', best, '--batch-size', 2
    call(*arguments, '--out', 'one.csv')
    torchrun = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'
    done = run_process(*arguments, '--out', 'two.csv', '--launcher', 'pytorch', cwd=tmp_path, before=torchrun)
    assert done.code == 0, done.err
    assert done.out.count('15 photos: ') == 1
    one, two = table(tmp_path / 'one.csv'), table(tmp_path / 'two.csv')
    assert [row['path'] for row in one] == [row['path'] for row in two]
    for first, second in zip(one, two, strict=True):
        assert float(first['score']) == pytest.approx(float(second['score']), abs=1e-5)
