"""The last weights of several seeds of one recipe averaged into one model. Nothing is trained or judged here."""

from collections.abc import Sequence
from pathlib import Path

import torch

from custom_modules.engine.checkpoints import load_checkpoint, newest_checkpoint
from custom_modules.engine.publishing import plain_weights
from custom_modules.errors import InputError
from custom_modules.evaluation.run_comparison import group_seeds
from custom_modules.evaluation.runs import read_run
from custom_modules.evaluation.training_log import config_text, parse_config, section

# What best.pth says of one epoch of one seed.
NOT_OF_A_SOUP = ('metric', 'value', 'photos', 'epoch', 'iter', 'seed')


def average_runs(folders: Sequence[Path]) -> dict:
    """The mean of what trainings that differ in their seed alone ended with.

    From the same pretrained weights they end near enough to each other for the mean of their weights to be a model
    about as good as the mean of their answers, for the price of one (Wortsman et al. 2022, *Model soups*). The last
    epoch's weights are taken, the averaged ones where a run keeps any, and not ``best.pth``: no epoch is chosen.
    Where batch norm adapts, each seed has statistics of its own, and their mean is not that of the averaged model: it
    had a calibration error of 17.6 %. So only recipes that keep batch norm's statistics (``norm_eval``) are averaged.

    Args:
        folders: Work dirs of finished trainings, two or more.

    Returns:
        A checkpoint: ``state_dict``, and the ``meta`` of the first run's ``best.pth`` without what is said of one
        epoch there, with ``seeds``, one a run.

    A training with early stopping may have ended at any epoch: of such, whatever was saved last is taken.

    Raises:
        InputError: They are fewer than two, not finished, broken, not trainings of one recipe with different seeds, or
            their batch norm adapted.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError('a soup is made of two work dirs or more, each named once')
    runs = [read_run(folder) for folder in folders]
    if len(group_seeds(runs)) > 1:
        raise InputError(
            f'{", ".join(map(str, folders))}: not one recipe and dataset; their configs may differ in the seed alone'
        )
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise InputError(f'{", ".join(map(str, folders))}: seeds {seeds}; the same training twice adds nothing')
    metas = [load_checkpoint(folder / 'best.pth')['meta'] for folder in folders]
    if strange := [
        str(folder)
        for folder, meta in zip(folders, metas, strict=True)
        if meta.get('classes') != metas[0].get('classes')
    ]:
        raise InputError(f'{", ".join(strange)}: other classes than in {folders[0]}, or in another order')
    states = [_last_weights(folder) for folder in folders]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    if strange := [str(folder) for folder, other in zip(folders, shapes, strict=True) if other != shapes[0]]:
        raise InputError(f'{", ".join(strange)}: other weights than in {folders[0]}, though the configs say the same')
    for key, value in states[0].items():
        if key.endswith('running_mean') and not all(torch.equal(value, other[key]) for other in states):
            raise InputError(
                f'{folders[0]}: its batch norm adapted to the photos ({key}), and averaged weights would need '
                'statistics of their own; only recipes with norm_eval=True in model.backbone, as the fast one, can be '
                'averaged'
            )
    state = {
        key: torch.stack([other[key] for other in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
    return {
        'state_dict': state,
        'meta': {key: value for key, value in metas[0].items() if key not in NOT_OF_A_SOUP} | {'seeds': seeds},
    }


def _last_weights(folder: Path) -> dict[str, torch.Tensor]:
    last = newest_checkpoint(folder)
    checkpoint = load_checkpoint(last) if last else {}
    meta = checkpoint.get('meta') or {}
    config = config_text(meta) or ''
    most = section(parse_config(config), 'train_cfg').get('max_epochs')
    unfinished = isinstance(most, int) and meta.get('epoch', most) < most and 'EarlyStopping' not in config
    if last is None or '_iter_' in last.name or unfinished:
        found = (
            'no epoch_N.pth' if last is None else f'{last.name} is newest{f" of {most} epochs" if unfinished else ""}'
        )
        raise InputError(f'{folder}: the training has not ended ({found}); go on with it by tools/train.py --resume')
    return plain_weights(checkpoint, str(last))
