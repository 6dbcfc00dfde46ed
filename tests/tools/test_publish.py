"""tools/publish.py: the same weights in a file of their own, which every tool takes."""

import hashlib
import json
import shutil

import pytest
import torch

from custom_modules.models.checkpoints import load_checkpoint, weights_digest


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the tiny run."""
    return shutil.copytree(trained.work_dir, tmp_path / 'run')


def change(file, changed):
    checkpoint = load_checkpoint(file)
    changed(checkpoint)
    torch.save(checkpoint, file)


def only(folder):
    (file,) = folder.glob('*.pth')
    return file


def assert_equal(published, state):
    assert published.keys() == state.keys()
    assert all(torch.equal(published[key], value) for key, value in state.items())


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
    source, published = load_checkpoint(run / name), torch.load(file, weights_only=True)
    assert published.keys() == {'state_dict', 'meta'}
    assert_equal(published['state_dict'], source['state_dict'])
    meta, best = published['meta'], load_checkpoint(run / 'best.pth')['meta']
    for key in ('classes', 'config', 'run', 'dataset_digest'):
        assert meta[key] == best[key]
    assert meta['epoch'] == source['meta']['epoch']
    assert meta['temperature'] == tested['temperature_scaling']['temperature']
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.name == f'{best["run"]}-{sha256[:8]}.pth'
    assert f'written     out/{file.name} (' in result.out
    card = (tmp_path / 'out' / f'{file.name}.MODEL_CARD.md').read_text()
    for said in (file.name, tested['weights'], sha256, '| all | 40 | 15 |', f'({tested["accuracy/top1"]["k"]}/15, '):
        assert said in card

    assert 'exists already' in call('publish', run / name, '--out', 'out').error
    assert call('test', tiny_config, file).code == 0
    again = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert [again[key] for key in ('weights', 'accuracy/top1')] == [
        tested[key] for key in ('weights', 'accuracy/top1')
    ]
    rows = [call('predict', data / 'val', '--checkpoint', checkpoint).out for checkpoint in (run / name, file)]
    assert rows[0] == rows[1]


def test_ema_weights_are_published(tiny_config, call, tmp_path):
    """Those of the last epoch equal best.pth's, if that is the last epoch's, which saves what was validated."""
    config = tmp_path / 'averaged.py'
    hooks = "default_hooks = dict(ema=dict(type='EMAHook', momentum=0.5))\ntrain_cfg = dict(max_epochs=1)\n"
    config.write_text(f'_base_ = {str(tiny_config)!r}\n{hooks}')
    assert call('train', config, '--work-dir', 'run').code == 0
    last = load_checkpoint(tmp_path / 'run' / 'epoch_1.pth')
    assert not torch.equal(last['state_dict']['head.fc.bias'], last['ema_state_dict']['module.head.fc.bias'])
    assert 'ema_state_dict' in call('publish', tmp_path / 'run' / 'epoch_1.pth', '--out', 'out').out
    best = load_checkpoint(tmp_path / 'run' / 'best.pth')['state_dict']
    assert_equal(load_checkpoint(only(tmp_path / 'out'))['state_dict'], best)


def test_the_same_checkpoint_gives_the_same_file(run, data, call, tmp_path):
    assert 'temperature none: ' in call('publish', run / 'best.pth', '--out', 'one').out
    first = only(tmp_path / 'one')
    call('publish', first, '--out', 'two')
    assert only(tmp_path / 'two').read_bytes() == first.read_bytes()
    first.rename(first.with_name('renamed-0123abcd.pth'))
    said = call('predict', data / 'val', '--checkpoint', 'one/renamed-0123abcd.pth').error
    assert 'not 0123abcd as its name says' in said


@pytest.mark.parametrize(('name', 'stem'), [(None, 'best'), ('../of a/run', '_of_a_run')])
def test_the_name_of_the_file(run, call, tmp_path, name, stem):
    change(run / 'best.pth', lambda checkpoint: checkpoint['meta'].update(run=name))
    assert call('publish', run / 'best.pth', '--out', 'out').code == 0
    assert only(tmp_path / 'out').name.startswith(f'{stem}-')


def meta(**values):
    return lambda checkpoint: checkpoint['meta'].update(values)


def weights(**values):
    return lambda checkpoint: checkpoint['state_dict'].update(values)


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (lambda checkpoint: checkpoint.pop('state_dict'), 'holds no state_dict'),
        (weights(steps=3), 'steps is no tensor of numbers'),
        (weights(w=torch.tensor(torch.nan)), 'w is not finite'),
        (weights(w=torch.tensor([torch.inf]).to(torch.float8_e5m2)), 'w is not finite'),
        (weights(w=torch.ones(1, device='meta')), 'w is no tensor'),
        (lambda checkpoint: checkpoint['state_dict'].update({5: torch.ones(1)}), 'keys that are no names'),
        (meta(classes=None, dataset_meta=None), 'holds no class names'),
        (meta(seed={1}), 'its meta holds more than plain values'),
        (meta(seed=float('nan')), 'its meta holds more than plain values'),
        (meta(versions='1.0', photos=1.5), "(photos is 1.5, versions is '1.0')"),
        (meta(value=300.0), '(value is 300.0)'),
        (meta(temperature=-1), 'its temperature is -1, no positive number'),
    ],
)
def test_unusable_checkpoints_are_refused(run, call, tmp_path, spoil, said):
    change(run / 'best.pth', spoil)
    assert said in call('publish', run / 'best.pth', '--out', 'out').error
    assert not (tmp_path / 'out').exists()


def test_edited_results_are_refused(run, call, tmp_path):
    state = load_checkpoint(run / 'best.pth')['state_dict']
    found = {'weights': weights_digest(state), 'accuracy/top1': {'n': 2}, 'classes': {}}
    (run / 'metrics.json').write_text(json.dumps(found))
    assert 'metrics.json: not as a test has written it' in call('publish', run / 'best.pth', '--out', 'out').error
    assert not (tmp_path / 'out').exists()
