"""tools/publish.py: the same weights in a file of their own, which every tool takes."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch

from custom_modules.models.checkpoints import load_checkpoint, weights_digest

LOADS = """
import sys, torch
held = torch.load(sys.argv[1], weights_only=True)
assert set(held) == {'state_dict', 'meta'}
assert all(type(value) is torch.Tensor for value in held['state_dict'].values())
"""


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the tiny run."""
    return shutil.copytree(trained.work_dir, tmp_path / 'run')


def change(file, changed):
    checkpoint = load_checkpoint(file)
    changed(checkpoint)
    torch.save(checkpoint, file)


def only(folder, pattern='*.pth'):
    (file,) = folder.glob(pattern)
    return file


@pytest.mark.parametrize('name', ['best.pth', 'epoch_2.pth'])
def test_the_weights_are_the_same_and_every_tool_takes_them(
    run, tiny_config, data, call, tmp_path, give_temperature, name
):
    assert call('test', tiny_config, run / name).code == 0
    give_temperature(run / 'metrics.json', 1.25)
    tested = json.loads((run / 'metrics.json').read_text())
    result = call('publish', run / name, '--out', 'out')
    assert result.code == 0, result
    file = only(tmp_path / 'out')
    source, published = load_checkpoint(run / name), load_checkpoint(file)
    assert published['state_dict'].keys() == source['state_dict'].keys()
    for key, value in source['state_dict'].items():
        assert torch.equal(published['state_dict'][key], value)
    meta = published['meta']
    best = load_checkpoint(run / 'best.pth')['meta']
    for key in ('classes', 'config', 'run', 'dataset_digest'):
        assert meta[key] == best[key]
    assert meta['epoch'] == source['meta']['epoch']
    assert meta['temperature'] == tested['temperature_scaling']['temperature']
    assert file.name == f'{best["run"]}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth'
    assert f'written     out/{file.name} (' in result.out
    card = only(tmp_path / 'out', '*.md')
    assert card.name == f'{file.name}.MODEL_CARD.md'
    for said in (file.name, tested['weights'], hashlib.sha256(file.read_bytes()).hexdigest(), '| all | 40 | 15 |'):
        assert said in card.read_text()
    assert f'({tested["accuracy/top1"]["k"]}/15, ' in card.read_text()
    subprocess.run([sys.executable, '-c', LOADS, file], check=True, cwd=tmp_path)

    assert 'exists already' in call('publish', run / name, '--out', 'out').error
    assert call('test', tiny_config, file).code == 0
    again = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert again['weights'] == tested['weights']
    assert again['accuracy/top1'] == tested['accuracy/top1']
    rows = [call('predict', data / 'val', '--checkpoint', checkpoint).out for checkpoint in (run / name, file)]
    assert rows[0] == rows[1]


def test_of_averaged_weights_the_averaged_ones_are_published(data, tiny_config, run_process, call, tmp_path):
    """Those of the last epoch equal best.pth's, if that is the last epoch's, which saves what was validated."""
    config = tmp_path / 'averaged.py'
    hooks = "default_hooks = dict(ema=dict(type='EMAHook', momentum=0.5))\ntrain_cfg = dict(max_epochs=1)\n"
    config.write_text(f'_base_ = {str(tiny_config)!r}\n{hooks}')
    assert run_process('train', config, '--work-dir', tmp_path / 'run', cwd=tmp_path).code == 0
    last = load_checkpoint(tmp_path / 'run' / 'epoch_1.pth')
    assert not torch.equal(last['state_dict']['head.fc.bias'], last['ema_state_dict']['module.head.fc.bias'])
    assert 'ema_state_dict' in call('publish', tmp_path / 'run' / 'epoch_1.pth', '--out', 'out').out
    best = load_checkpoint(tmp_path / 'run' / 'best.pth')['state_dict']
    for key, value in load_checkpoint(only(tmp_path / 'out'))['state_dict'].items():
        assert torch.equal(value, best[key])


def test_the_same_checkpoint_gives_the_same_file(run, data, call, tmp_path):
    assert 'temperature none: ' in call('publish', run / 'best.pth', '--out', 'one').out
    first = only(tmp_path / 'one')
    call('publish', first, '--out', 'two')
    assert only(tmp_path / 'two').read_bytes() == first.read_bytes()
    first.rename(first.with_name('renamed-0123abcd.pth'))
    said = call('predict', data / 'val', '--checkpoint', 'one/renamed-0123abcd.pth').error
    assert 'not 0123abcd as its name says' in said


def test_without_a_run_the_file_lends_its_name(run, call, tmp_path):
    change(run / 'best.pth', lambda checkpoint: checkpoint['meta'].pop('run'))
    assert call('publish', run / 'best.pth', '--out', 'one').code == 0
    assert only(tmp_path / 'one').name.startswith('best-')
    change(run / 'best.pth', lambda checkpoint: checkpoint['meta'].update(run='../of a/run'))
    assert call('publish', run / 'best.pth', '--out', 'two').code == 0
    assert only(tmp_path / 'two').name.startswith('_of_a_run-')


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (lambda checkpoint: checkpoint.pop('state_dict'), 'holds no state_dict'),
        (lambda checkpoint: checkpoint['state_dict'].update(steps=3), 'steps is no tensor of numbers'),
        (lambda checkpoint: checkpoint['state_dict']['head.fc.bias'].fill_(torch.nan), 'head.fc.bias is not finite'),
        (lambda checkpoint: checkpoint['meta'].pop('classes'), 'holds no class names'),
        (lambda checkpoint: checkpoint['meta'].update(seed={1}), 'its meta holds more than plain values'),
        (lambda checkpoint: checkpoint['meta'].update(seed=float('nan')), 'its meta holds more than plain values'),
        (
            lambda checkpoint: checkpoint['meta'].update(versions='1.0', photos=1.5),
            "(photos is 1.5, versions is '1.0')",
        ),
        (lambda checkpoint: checkpoint['meta'].update(value=300.0), '(value is 300.0)'),
        (lambda checkpoint: checkpoint['state_dict'].update({5: torch.ones(1)}), 'keys that are no names'),
        (
            lambda checkpoint: checkpoint['state_dict'].update(w=torch.tensor([torch.inf]).to(torch.float8_e5m2)),
            'w is not finite',
        ),
        (lambda checkpoint: checkpoint['state_dict'].update(w=torch.ones(1, device='meta')), 'w is no tensor'),
        (lambda checkpoint: checkpoint['meta'].update(temperature=-1), 'its temperature is -1, no positive number'),
    ],
)
def test_what_is_not_fit_is_refused(run, call, tmp_path, spoil, said):
    change(run / 'best.pth', spoil)
    assert said in call('publish', run / 'best.pth', '--out', 'out').error
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'file').touch()
    assert 'is a file, not a folder' in call('publish', run / 'best.pth', '--out', 'file').error


@pytest.mark.parametrize(
    'spoil', [lambda found: found['accuracy/top1'].pop('k'), lambda found: found.update(classes=3)]
)
def test_edited_results_are_refused_in_a_line(run, tiny_config, call, tmp_path, spoil):
    state = load_checkpoint(run / 'best.pth')['state_dict']
    found = {'weights': weights_digest(state), 'accuracy/top1': {'k': 1, 'n': 2}, 'classes': {}}
    spoil(found)
    (run / 'metrics.json').write_text(json.dumps(found))
    assert 'metrics.json: not as a test has written it' in call('publish', run / 'best.pth', '--out', 'out').error
    assert not (tmp_path / 'out').exists()
