"""Keeps the weights with the best validation result in ``best.pth``."""

import math
import operator
from pathlib import Path

import mmcv
import mmengine
import mmpretrain
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import nn

import custom_modules
from custom_modules.datasets.class_counts import innermost
from custom_modules.engine.loops import counts_epochs, progress_text
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import load_checkpoint, save_atomically

BETTER = {'greater': operator.gt, 'less': operator.lt}
STATE = 'run', 'best_value', 'best_at', 'last_value'


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Keeps the weights with the best validation result in the work dir.

    The file holds ``state_dict`` (CPU tensors, plain keys, the EMA weights where those were validated) and ``meta`` of
    plain types. A metric that is not finite is never the best; of equal values the earlier one stays.

    After a resume the best so far is read from the file, because MMEngine saves an epoch's checkpoint before
    validating that epoch. A file that is missing or belongs to another run is not counted.

    Args:
        metric: Key of the validation result to compare. Defaults to 'accuracy/top1'.
        rule: Which of two values is better, 'greater' or 'less'. Defaults to 'greater'.
        filename: Name of the file in the work dir. Defaults to 'best.pth'.
    """

    # Before EMAHook (NORMAL) takes the validated weights out of the model again.
    priority = 'ABOVE_NORMAL'

    def __init__(self, metric: str = 'accuracy/top1', rule: str = 'greater', filename: str = 'best.pth') -> None:
        if rule not in BETTER:
            raise InputError(f"BestCheckpointHook: rule is {rule!r}. Give 'greater' or 'less'.")
        self.metric = metric
        self.rule = rule
        self.filename = filename
        self.run: str | None = None
        self.best_value: float | None = None
        self.best_at = ''  # as 'epoch 3' or 'iteration 700'
        self.last_value: float | None = None  # of the last validation; it may not be finite

    def before_run(self, runner: Runner) -> None:
        if any(isinstance(hook, EMAHook) for hook in runner.hooks[: runner.hooks.index(self)]):
            raise InputError('BestCheckpointHook comes after EMAHook: give it a higher priority, to save EMA weights')

    def before_train(self, runner: Runner) -> None:
        self.path = Path(runner.work_dir) / self.filename
        if not runner.val_dataloader.dataset.metainfo.get('classes'):
            raise InputError('val_dataloader.dataset: has no class names. Set its classes=[…], in label order.')
        if self.run is None:  # otherwise it came with the checkpoint that is being resumed
            self.run = runner.experiment_name
            return
        record = [self._read_record(runner) if is_main_process() else None]
        broadcast_object_list(record)
        self.best_value, self.best_at = record[0] or (None, '')

    def _read_record(self, runner: Runner) -> tuple[float, str] | None:
        """The best value and its place in ``best.pth``, if it is this run's."""
        meta = load_checkpoint(self.path).get('meta') or {} if self.path.is_file() else {}
        if (meta.get('run'), meta.get('metric')) == (self.run, self.metric):
            unit = 'epoch' if 'epoch' in meta else 'iter'
            return meta['value'], f'{unit.replace("iter", "iteration")} {meta[unit]}'
        if self.best_value is not None:
            runner.logger.warning(f'{self.path} of the resumed run is missing: the next validation counts as the best')
        return None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        at = progress_text(runner)
        value = self.last_value = float((metrics or {})[self.metric])  # preflight_hook.py refuses another metric
        if not math.isfinite(value):
            runner.logger.warning(f'{self.metric} is {value} after {at}: not kept as {self.filename}')
        elif self.best_value is None or BETTER[self.rule](value, self.best_value):
            self.best_value, self.best_at = value, at
            if is_main_process():
                save_atomically({'state_dict': plain_state_dict(runner.model), 'meta': self._meta(runner)}, self.path)

    def _meta(self, runner: Runner) -> dict:
        modules = (custom_modules, torch, mmengine, mmpretrain, mmcv)
        classes = [str(name) for name in runner.val_dataloader.dataset.metainfo['classes']]
        return {
            'classes': classes,
            'dataset_meta': {'classes': classes},  # where MMPretrain's inferencer looks for them
            'config': runner.cfg.pretty_text,
            'metric': self.metric,
            'value': self.best_value,
            **({'epoch': runner.epoch} if counts_epochs(runner) else {}),
            'iter': runner.iter,
            'seed': runner.seed,
            'photos': len(runner.val_dataloader.dataset),
            'processes': runner.world_size,
            'dataset_digest': getattr(innermost(runner.train_dataloader.dataset), 'digest', None),
            'versions': {module.__name__: str(module.__version__) for module in modules},
            'run': self.run,
            'pretrained': runner.cfg.get('pretrained'),
        }

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        digest = getattr(innermost(runner.train_dataloader.dataset), 'digest', None)
        checkpoint['BestCheckpointHook'] = {name: getattr(self, name) for name in STATE} | {'dataset_digest': digest}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self.__dict__.update(checkpoint.get('BestCheckpointHook', {}))

    def after_train(self, runner: Runner) -> None:
        if self.best_value is None:
            runner.logger.warning(f'{self.metric} was never finite: no {self.filename} was kept')
        else:
            runner.logger.info(f'best {self.metric}: {self.best_value:.4f} ({self.best_at}, {self.path})')


def plain_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights on the CPU, under the keys they have without DDP or :func:`torch.compile` around the model."""
    model = model.get_submodule('module') if is_model_wrapper(model) else model
    return {key.replace('_orig_mod.', ''): value.detach().cpu() for key, value in model.state_dict().items()}
