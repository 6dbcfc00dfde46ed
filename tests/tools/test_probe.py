"""``--probe``, and a fine-tuning that starts from a linear probe, as a user runs them."""

import json

import pytest
import torch

from custom_modules.evaluation.runs import read_run


@pytest.fixture
def config_with_probe(tiny_config, trained, tmp_path):
    """The tiny config, which starts from a probe and does nothing with it: learning rate 0."""
    config = tmp_path / 'from_probe.py'
    config.write_text(
        f'_base_ = {str(tiny_config)!r}\n'
        "default_hooks = dict(linear_probe=dict(type='LinearProbeHook', l2=1e-5))\n"
        f'load_from = {str(trained.work_dir / "best.pth")!r}\n'
        'optim_wrapper = dict(optimizer=dict(lr=0.0, weight_decay=0.0))\n'
    )
    return config


def head(path):
    return {key: value for key, value in torch.load(path)['state_dict'].items() if key.startswith('head')}


def test_probe_ends_as_a_training_does(config_with_probe, tiny_config, call, tmp_path):
    done = call('train', config_with_probe, '--probe', '--work-dir', 'probe')
    assert done.code == 0, done.err
    assert 'top-1 on validation photos: best' in done.out
    run = read_run(tmp_path / 'probe')
    assert run.recipe == 'linear probe'
    assert run.best == run.last
    assert run.history[0]['train_accuracy'] > 30  # chance is 20
    tested = call('test', tiny_config, 'probe/best.pth')
    assert tested.code == 0, tested.err
    assert json.loads((tmp_path / 'probe' / 'metrics.json').read_text())['accuracy/top1']['percent'] == pytest.approx(
        run.best
    )


def test_the_probe_does_not_depend_on_the_seed(tiny_config, trained, call):
    options = ['--cfg-options', f'load_from={trained.work_dir}/best.pth']
    for seed in (1, 2):
        done = call('train', tiny_config, '--probe', '--seeds', seed, '--work-dir', f'probe_{seed}', *options)
        assert done.code == 0, done.err
        assert 'linear probe, seed' in done.out
    first, second = head('probe_1/best.pth'), head('probe_2/best.pth')
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_fine_tuning_starts_from_the_probe_and_a_resume_does_not(config_with_probe, trained, call, tmp_path):
    done = call('train', config_with_probe, '--work-dir', 'tuned')
    assert done.code == 0, done.err
    assert 'linear probe: head fitted on 40 photos' in done.out
    solved = head('tuned/epoch_1.pth')
    assert all(torch.equal(solved[key], value) for key, value in head('tuned/epoch_2.pth').items())
    started = head(trained.work_dir / 'best.pth')
    assert not any(torch.equal(solved[key], started[key]) for key in started)

    (tmp_path / 'tuned' / 'epoch_2.pth').unlink()
    resumed = call('train', config_with_probe, '--work-dir', 'tuned', '--resume')
    assert resumed.code == 0, resumed.err
    assert 'linear probe' not in resumed.out


@pytest.mark.parametrize('flag', ['--demo', '--resume', '--no-validate', '--dry-run', '--save-every-minutes=0'])
def test_what_does_not_go_with_probe(flag, tiny_config, call, capfd):
    with pytest.raises(SystemExit) as caught:
        call('train', tiny_config, '--probe', flag)
    assert caught.value.code == 2
    assert f'leave out {flag.partition("=")[0]}' in capfd.readouterr().err


def test_a_probe_in_a_used_work_dir(tiny_config, trained, call):
    error = call('train', tiny_config, '--probe', '--work-dir', trained.work_dir).error
    assert error.endswith('holds a run already; name another --work-dir')


def test_fine_tuning_from_a_probe_without_validation(config_with_probe, call):
    done = call('train', config_with_probe, '--no-validate', '--work-dir', 'unseen')
    assert done.code == 0, done.err
    assert 'linear probe: head fitted on 40 photos' in done.out


def test_a_probe_needs_a_validation(tiny_config, call, tmp_path):
    config = tmp_path / 'unseen.py'
    config.write_text(f'_base_ = {str(tiny_config)!r}\nval_cfg = val_dataloader = val_evaluator = None\n')
    assert 'has no val_dataloader' in call('train', config, '--probe').error


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (
            'batch_size=0',
            'LinearProbeHook, its photos through its pipeline and the model: ValueError: batch_size should',
        ),
        ("pipeline=[dict(type='LoadPhoto', min_short_edge=0)]", 'min_short_edge must be 1 or more, got 0'),
        ("pipeline=[dict(type='LoadPhoto', min_short_edge=9)]", "KeyError: 'inputs'"),  # nothing packs
        ('l2=-1.0', 'l2 is -1.0'),
    ],
)
def test_a_hook_that_cannot_probe(config_with_probe, call, tmp_path, settings, said):
    config = tmp_path / 'wrong.py'
    config.write_text(
        f'_base_ = {str(config_with_probe)!r}\n'
        f"default_hooks = dict(linear_probe=dict(_delete_=True, type='LinearProbeHook', {settings}))\n"
    )
    done = call('train', config, '--work-dir', 'wrong')
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
