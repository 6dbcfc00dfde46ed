"""Checkpoint files: written whole or not at all, loaded as data only."""

import hashlib
import io
import os
import zipfile

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

import custom_modules.register  # noqa: F401  MMEngine reads and writes checkpoints as in a run
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import (
    AtomicLocalBackend,
    CorruptCheckpointError,
    checkpoint_classes,
    checkpoints_by_progress,
    load_checkpoint,
    newest_checkpoint,
    save_atomically,
    weights_digest,
)


class Calls:
    """Pickles into ``function(*args)``."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def test_the_digest_is_of_keys_and_numbers_alone():
    state = {'a': torch.arange(24.0).view(1, 2, 3, 4), 'steps': torch.tensor(3), 'half': torch.ones(2).bfloat16()}
    digest = weights_digest(state)
    same = {key: value.clone() for key, value in reversed(state.items())}
    same['a'] = same['a'].to(memory_format=torch.channels_last)
    assert weights_digest(same) == digest
    assert weights_digest({**state, 'steps': torch.tensor(4)}) != digest
    assert weights_digest({**state, 'b': state['a'], 'a': state['half']}) != digest


def test_a_file_is_what_its_name_says_or_refused(tmp_path):
    save_atomically({'state_dict': {}}, tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    begins = hashlib.sha256(content).hexdigest()[:8]
    for name in (f'a-{begins}.pth', 'a-20261122.pth', 'a-weights.pth', 'epoch_1.pth'):
        (tmp_path / name).write_bytes(content)
        assert load_checkpoint(tmp_path / name) == {'state_dict': {}}
    (tmp_path / 'a-0123abcd.pth').write_bytes(content)
    with pytest.raises(InputError, match=f'begins with {begins}, not 0123abcd as its name says') as caught:
        load_checkpoint(tmp_path / 'a-0123abcd.pth')
    assert len(caught.value.problems) == 1


def test_mmengine_writes_and_loads_local_checkpoints_in_this_way(tmp_path):
    assert isinstance(get_file_backend(str(tmp_path / 'epoch_1.pth')), AtomicLocalBackend)
    assert isinstance(get_file_backend(str(tmp_path), backend_args={'backend': 'local'}), AtomicLocalBackend)
    assert CheckpointLoader._get_checkpoint_loader(str(tmp_path / 'epoch_1.pth')) is load_checkpoint


def test_the_checkpoints_of_a_run_load_as_data_with_their_history(trained):
    buffers = load_checkpoint(trained.work_dir / 'epoch_1.pth')['message_hub']['log_scalars']
    losses, _ = buffers['train/loss'].data
    assert isinstance(buffers['train/loss'], HistoryBuffer)
    assert buffers['train/loss'].statistics('mean') == pytest.approx(np.mean(losses))


@pytest.mark.parametrize(
    ('function', 'args', 'named'),
    [
        (os.mkdir, ('fired',), 'mkdir'),
        (os.system, ('mkdir fired',), 'system'),
        (eval, ("__import__('os').mkdir('fired')",), 'eval'),
        (getattr, (os, 'system'), ''),
        (getattr, (HistoryBuffer, '__init__'), 'getattr'),
    ],
)
def test_code_in_a_checkpoint_is_refused_not_run(function, args, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if args[0] is os:  # a module does not pickle: by its name
        args = ('os', 'system')
    torch.save({'state_dict': Calls(function, *args)}, 'bad.pth')
    with pytest.raises(InputError, match='would run code') as caught:
        load_checkpoint('bad.pth')
    assert named in str(caught.value)
    assert len(caught.value.problems) == len(str(caught.value).splitlines()) == 1
    assert os.listdir() == ['bad.pth']


def test_truncated_and_other_files_are_refused_in_one_line(tmp_path):
    save_atomically({'state_dict': {'w': torch.zeros(100)}}, tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    truncated = [whole[:length] for length in range(0, len(whole), 97)]
    for content in [*truncated, b'text\n', b'PK\x03\x04', b'\x80\x02', b'\0' * 100]:
        (tmp_path / 'x.pth').write_bytes(content)
        with pytest.raises(InputError, match=r'x\.pth: ') as caught:
            load_checkpoint(tmp_path / 'x.pth')
        assert len(str(caught.value).splitlines()) == 1


def test_a_flipped_bit_is_found(tmp_path):
    # torch itself loads it, with another weight: when this fails, it has learnt to look.
    path = tmp_path / 'x.pth'
    weights = torch.linspace(1, 2, 1000)
    save_atomically({'state_dict': {'w': weights}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()[:64]) + 2] ^= 4
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)['state_dict']['w'], weights)
    with pytest.raises(CorruptCheckpointError, match='wrong checksum'):
        load_checkpoint(path)


@pytest.mark.parametrize('kind', ['compressed', 'overlapping'])
def test_a_zip_bomb_is_refused_unread(kind, tmp_path, monkeypatch):
    save_atomically({'state_dict': {'w': torch.zeros(1_000_000)}}, tmp_path / 'whole.pth')
    bomb = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(tmp_path / 'whole.pth') as whole, zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    if kind == 'overlapping':  # the directory names the same 4 MB twice
        bomb.write_bytes((tmp_path / 'whole.pth').read_bytes())
        with zipfile.ZipFile(bomb, 'a') as archive:
            archive.filelist += archive.filelist
            archive._didModify = True
    else:
        assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: pytest.fail('it was loaded'))
    with pytest.raises(InputError, match='larger inside than outside') as caught:
        load_checkpoint(bomb)
    assert not isinstance(caught.value, CorruptCheckpointError), 'such a file is refused, not passed over'


def test_torchs_old_format_loads(tmp_path):
    content = io.BytesIO()
    torch.save({'state_dict': {'w': torch.arange(3)}}, content, _use_new_zipfile_serialization=False)
    (tmp_path / 'old.pth').write_bytes(content.getvalue())
    assert load_checkpoint(tmp_path / 'old.pth')['state_dict']['w'].tolist() == [0, 1, 2]


def test_missing_weights_name_the_one_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'no such file\. Get it with: python tools/fetch_weights.py resnet18$'):
        load_checkpoint('checkpoints/resnet18.pth')
    with pytest.raises(InputError, match=r"resnet18 --out 'a b'$"):
        load_checkpoint('a b/resnet18.pth')
    with pytest.raises(InputError, match=r'no such file\.$'):
        load_checkpoint(tmp_path / 'mine.pth')


def test_checkpoints_are_sorted_by_progress(tmp_path):
    assert newest_checkpoint(tmp_path / 'absent') is None
    names = ['epoch_2.pth', 'epoch_2_iter_9.pth', 'epoch_2_iter_10.pth', 'iter_11.pth', 'epoch_10.pth', 'iter_99.pth']
    for name in [*reversed(names), 'best.pth', 'epoch_11.pth.tmp', 'epoch_x.pth', '.epoch_12.pth.1.tmp']:
        (tmp_path / name).touch()
    save_atomically({'meta': {'epoch': 2, 'iter': 11}}, tmp_path / 'iter_11.pth')
    assert [path.name for path in checkpoints_by_progress(tmp_path)] == names, 'the corrupt one is the newest'
    assert newest_checkpoint(tmp_path).name == 'iter_99.pth'


def test_class_names():
    assert checkpoint_classes({'meta': {'classes': ['a', 'b']}}, 'x') == ['a', 'b']
    assert checkpoint_classes({'meta': {'dataset_meta': {'classes': ('a', 'b')}}}, 'x') == ['a', 'b']
    for nameless in ({}, {'meta': None}, {'meta': {}}, {'meta': {'dataset_meta': None}}, {'meta': {'classes': []}}):
        with pytest.raises(InputError, match='x: holds no class names'):
            checkpoint_classes(nameless, 'x')
    with pytest.raises(InputError, match='x: has more than one class called b'):
        checkpoint_classes({'meta': {'classes': ['a', 'b', 'b']}}, 'x')
