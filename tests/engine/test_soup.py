"""Seeds of one recipe averaged; what is no such thing refused."""

import shutil

import pytest
import torch

from custom_modules.engine.checkpoints import newest_checkpoint
from custom_modules.engine.soup import average_runs
from custom_modules.errors import InputError


def change(file, changed):
    checkpoint = torch.load(file, weights_only=False)
    changed(checkpoint)
    torch.save(checkpoint, file)


@pytest.fixture
def runs(trained, tmp_path):
    """Two work dirs, of which the second says to have seed 1 and ended with weights three times as large.

    Batch norm's statistics are those of the first, as where a recipe keeps them.
    """
    folders = [tmp_path / 'seed_0', tmp_path / 'seed_1']
    for folder in folders:
        shutil.copytree(trained.work_dir, folder)

    def triple(checkpoint):
        for key, value in checkpoint['state_dict'].items():
            if 'running_' not in key:
                value.mul_(3)

    change(newest_checkpoint(folders[1]), triple)
    change(folders[1] / 'best.pth', lambda checkpoint: checkpoint['meta'].update(seed=1))
    return folders


def test_the_weights_are_the_mean_of_the_last_ones(runs, call, tiny_config):
    assert call('soup', *runs).code == 0
    soup = torch.load(runs[0].parent / 'soup.pth', weights_only=True)
    last = torch.load(newest_checkpoint(runs[0]), weights_only=False)['state_dict']
    assert soup['state_dict'].keys() == last.keys()
    for key, value in last.items():
        changed = value.is_floating_point() and 'running_' not in key
        torch.testing.assert_close(soup['state_dict'][key], 2 * value if changed else value)
    best = torch.load(runs[0] / 'best.pth', weights_only=True)['meta']
    assert soup['meta']['seeds'] == [0, 1]
    assert soup['meta']['classes'] == best['classes']
    assert soup['meta']['dataset_digest'] == best['dataset_digest']
    assert not {'value', 'epoch', 'seed'} & soup['meta'].keys()

    tested = call('test', tiny_config, runs[0].parent / 'soup.pth')
    assert tested.code == 0
    assert 'top-1 accuracy' in tested.out
    assert 'exists already' in call('soup', *runs).error


def no_second(runs):
    return runs[:1]


def the_same_twice(runs):
    return [runs[0], runs[0]]


def no_run(runs):
    return [runs[0], runs[0].parent]


def one_seed(runs):
    change(runs[1] / 'best.pth', lambda checkpoint: checkpoint['meta'].update(seed=0))
    return runs


def another_recipe(runs):
    def faster(checkpoint):
        checkpoint['meta']['config'] = checkpoint['meta']['config'].replace('lr=0.05', 'lr=0.5')

    change(runs[1] / 'best.pth', faster)
    return runs


def other_classes(runs):
    change(runs[1] / 'best.pth', lambda checkpoint: checkpoint['meta']['classes'].reverse())
    return runs


def not_ended(runs):
    last = newest_checkpoint(runs[1])
    last.rename(last.with_name('epoch_2_iter_11.pth'))
    return runs


def an_epoch_short(runs):
    newest_checkpoint(runs[1]).unlink()
    return runs


def not_finite(runs):
    change(newest_checkpoint(runs[1]), lambda checkpoint: checkpoint['state_dict']['head.fc.bias'].fill_(torch.nan))
    return runs


def other_shapes(runs):
    change(newest_checkpoint(runs[1]), lambda checkpoint: checkpoint['state_dict'].pop('head.fc.bias'))
    return runs


def adapted(runs):
    def adapt(checkpoint):
        key = next(key for key in checkpoint['state_dict'] if key.endswith('running_mean'))
        checkpoint['state_dict'][key].add_(1)

    change(newest_checkpoint(runs[1]), adapt)
    return runs


@pytest.mark.parametrize(
    ('spoilt', 'said'),
    [
        (no_second, 'two work dirs or more'),
        (the_same_twice, 'each named once'),
        (no_run, 'no best.pth'),
        (other_classes, 'other classes than in .*, or in another order'),
        (one_seed, r'seeds \[0, 0\]'),
        (another_recipe, 'not one recipe'),
        (not_ended, 'has not ended'),
        (an_epoch_short, 'has not ended .epoch_1.pth is newest of 2 epochs'),
        (not_finite, 'head.fc.bias is no tensor of finite numbers'),
        (other_shapes, 'other weights than in'),
        (adapted, 'its batch norm adapted to the photos'),
    ],
)
def test_what_is_no_soup_is_refused(spoilt, said, runs):
    with pytest.raises(InputError, match=said) as caught:
        average_runs(spoilt(runs))
    assert len(caught.value.problems) == 1
