"""``--probe``, and a fine-tuning that starts from a linear probe, as a user runs them."""

import json

import pytest
import torch

from custom_modules.evaluation.trained_runs import read_trained_run


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


def test_probe_ends_as_a_training_does_whatever_the_seed(config_with_probe, tiny_config, call, tmp_path):
    for work_dir, seed in (('probe', 1), ('again', 2)):
        done = call('train', config_with_probe, '--probe', '--seeds', seed, '--work-dir', work_dir)
        assert done.code == 0, done.err
    assert 'none: a linear probe fits the head' in done.out
    assert 'top-1 on validation photos: best' in done.out
    first, second = head('probe/best.pth'), head('again/best.pth')
    assert all(torch.equal(first[key], second[key]) for key in first)
    run = read_trained_run(tmp_path / 'probe')
    assert run.recipe == 'linear probe'
    assert run.best == run.last
    assert run.history[0]['train_accuracy'] > 30  # chance is 20
    tested = call('test', tiny_config, 'probe/best.pth')
    assert tested.code == 0, tested.err
    metrics = json.loads((tmp_path / 'probe' / 'metrics.json').read_text())
    assert metrics['accuracy/top1']['percent'] == pytest.approx(run.best)


def test_fine_tuning_starts_from_the_probe_and_a_resume_does_not(config_with_probe, trained, call, tmp_path):
    """Whether or not it is validated."""
    done = call('train', config_with_probe, '--no-validate', '--work-dir', 'tuned')
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


def test_a_probe_in_a_used_work_dir(tiny_config, trained, call):
    error = call('train', tiny_config, '--probe', '--work-dir', trained.work_dir).error
    assert error.endswith('holds a run already. Name another --work-dir.')


def test_a_probe_needs_a_validation(tiny_config, call, tmp_path):
    config = tmp_path / 'unseen.py'
    config.write_text(f'_base_ = {str(tiny_config)!r}\nval_cfg = val_dataloader = val_evaluator = None\n')
    assert 'has no val_dataloader' in call('train', config, '--probe').error
