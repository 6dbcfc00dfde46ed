"""Checkpoint files: whole or not at all, and data only."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from custom_modules.engine.checkpoints import (
    AtomicLocalBackend,
    checkpoint_classes,
    load_checkpoint,
    newest_checkpoint,
    save_atomically,
)
from custom_modules.errors import InputError


class Calls:
    """Pickles into ``function(*args)``."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def test_round_trip(tmp_path):
    save_atomically({'state_dict': {'w': torch.arange(3)}, 'meta': {'epoch': 1}}, tmp_path / 'a.pth')
    loaded = load_checkpoint(tmp_path / 'a.pth')
    assert loaded['state_dict']['w'].tolist() == [0, 1, 2]
    assert loaded['meta'] == {'epoch': 1}


def test_mmengine_writes_and_loads_local_checkpoints_in_this_way(tmp_path):
    assert isinstance(get_file_backend(str(tmp_path / 'epoch_1.pth')), AtomicLocalBackend)
    assert isinstance(get_file_backend(str(tmp_path), backend_args={'backend': 'local'}), AtomicLocalBackend)
    assert CheckpointLoader._get_checkpoint_loader(str(tmp_path / 'epoch_1.pth')) is load_checkpoint


def test_a_run_killed_while_saving_keeps_the_last_whole_checkpoint(tiny_run, tmp_path, monkeypatch):
    class Killed(BaseException):
        """Like the kill, no exception that anything would catch."""

    def killed(descriptor):
        raise Killed

    runner = tiny_run([], epochs=1)
    runner.train()
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    monkeypatch.setattr(os, 'fsync', killed)
    with pytest.raises(Killed):
        tiny_run([], epochs=2).train()
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    assert not (tmp_path / 'epoch_2.pth').exists()


def test_history_buffers_of_a_real_run_load_and_work(tiny_run, tmp_path):
    tiny_run([], epochs=1).train()
    buffers = load_checkpoint(tmp_path / 'epoch_1.pth')['message_hub']['log_scalars']
    assert buffers
    assert all(isinstance(buffer, HistoryBuffer) for buffer in buffers.values())
    losses, _ = buffers['train/loss'].data
    assert len(losses) == 3
    assert buffers['train/loss'].statistics('mean') == pytest.approx(np.mean(losses))


def test_without_the_allow_list_torch_refuses_them(tiny_run, tmp_path):
    # When this fails, mmengine or torch has learnt it and the list can go.
    tiny_run([], epochs=1).train()
    unknown = set(torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / 'epoch_1.pth'))
    assert not unknown
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)


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


@pytest.mark.parametrize('content', [b'', b'text\n', b'PK\x03\x04', b'\x80\x02', b'\0' * 100])
def test_what_is_no_checkpoint_is_one_line(content, tmp_path):
    (tmp_path / 'x.pth').write_bytes(content)
    with pytest.raises(InputError, match=r'x\.pth: ') as caught:
        load_checkpoint(tmp_path / 'x.pth')
    assert len(str(caught.value).splitlines()) == 1


def test_every_truncation_is_one_line(tmp_path):
    save_atomically({'state_dict': {'w': torch.zeros(100)}}, tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / 'x.pth').write_bytes(content[:length])
        with pytest.raises(InputError, match=r'x\.pth: '):
            load_checkpoint(tmp_path / 'x.pth')


def test_missing_weights_name_the_one_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'no such file; get it with: python tools/fetch_weights.py resnet18$'):
        load_checkpoint('checkpoints/resnet18.pth')
    with pytest.raises(InputError, match=r'no such file$'):
        load_checkpoint(tmp_path / 'mine.pth')


def test_newest_checkpoint_goes_by_number(tmp_path):
    assert newest_checkpoint(tmp_path / 'absent') is None
    assert newest_checkpoint(tmp_path) is None
    for name in ('best.pth', 'epoch_9.pth', 'epoch_10.pth', 'epoch_11.pth.tmp', 'epoch_x.pth', '.epoch_12.pth.1.tmp'):
        (tmp_path / name).touch()
    assert newest_checkpoint(tmp_path).name == 'epoch_10.pth'


def test_class_names():
    assert checkpoint_classes({'meta': {'classes': ['a', 'b']}}, 'x') == ['a', 'b']
    assert checkpoint_classes({'meta': {'dataset_meta': {'classes': ('a', 'b')}}}, 'x') == ['a', 'b']
    for nameless in ({}, {'meta': None}, {'meta': {}}, {'meta': {'dataset_meta': None}}, {'meta': {'classes': []}}):
        with pytest.raises(InputError, match='x: holds no class names'):
            checkpoint_classes(nameless, 'x')
