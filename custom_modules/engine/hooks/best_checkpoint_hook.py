"""Keeps the weights that validated best in ``best.pth``; the checkpoints to resume from are CheckpointHook's."""

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
from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.errors import InputError
from custom_modules.models.checkpoints import load_checkpoint, save_atomically

BETTER = {'greater': operator.gt, 'less': operator.lt}


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Keeps the weights that validated best in the work dir.

    The file holds ``state_dict`` (CPU tensors, plain keys, the EMA weights where those were validated) and ``meta`` of
    plain types (``classes``, ``config``, ``metric``, ``value``, ``epoch``, ``iter``, ``seed``, ``photos`` (validated),
    ``processes``, ``dataset_digest``, ``versions``, ``run``, ``pretrained``). It is written by rank 0 and moved into
    place. A metric that is not finite never wins; of equal values the earlier one stays.

    After a resume the file itself says what the best so far is, because the checkpoint may be older than it: mmengine
    saves an epoch's checkpoint before validating that epoch. A file that is missing or belongs to another run counts
    for nothing; the best begins anew, so that a work dir always ends with the best of what was validated into it.

    Args:
        metric: Key of the validation result to compare. Defaults to 'accuracy/top1'.
        rule: Which of two values is better, 'greater' or 'less'. Defaults to 'greater'.
        filename: Name of the file in the work dir. Defaults to 'best.pth'.

    Attributes:
        best_value: The best value so far.
        best_epoch: The epoch it was reached in, counted from 1.
        last_value: The value of the last validation, which may not be finite.
        path: Where the file is, known from ``before_train`` on.
    """

    # Before EMAHook (NORMAL) takes the validated weights out of the model again.
    priority = 'ABOVE_NORMAL'

    def __init__(self, metric: str = 'accuracy/top1', rule: str = 'greater', filename: str = 'best.pth') -> None:
        if rule not in BETTER:
            raise InputError(f"BestCheckpointHook: rule is {rule!r}; it must be 'greater' or 'less'")
        self.metric = metric
        self.rule = rule
        self.filename = filename
        self.run: str | None = None
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.last_value: float | None = None
        self._training = False

    def before_run(self, runner: Runner) -> None:
        if any(isinstance(hook, EMAHook) for hook in runner.hooks[: runner.hooks.index(self)]):
            raise InputError(
                'BestCheckpointHook stands behind EMAHook and would save weights other than the validated ones: '
                'give it a higher priority than EMAHook has'
            )

    def before_train(self, runner: Runner) -> None:
        self._training = True
        self.path = Path(runner.work_dir) / self.filename
        if runner.val_loop is None:
            raise InputError('BestCheckpointHook needs validation: the config has no val_dataloader')
        if not runner.val_dataloader.dataset.metainfo.get('classes'):
            raise InputError(f'the validation dataset names no classes, so {self.filename} could not either')
        if self.run is None:  # otherwise it came with the checkpoint that is being resumed
            self.run = runner.experiment_name
        else:
            record = [self._read_record(runner) if is_main_process() else None]
            broadcast_object_list(record)
            self.best_value, self.best_epoch = record[0] or (None, None)

    def _read_record(self, runner: Runner) -> tuple[float, int] | None:
        """What ``best.pth`` says of itself, if it is this run's."""
        if self.path.is_file():
            meta = load_checkpoint(self.path).get('meta') or {}
            if (meta.get('run'), meta.get('metric')) == (self.run, self.metric):
                return meta['value'], meta['epoch']
        if self.best_value is not None:
            runner.logger.warning(
                f'{self.path} of the resumed run ({self.metric} {self.best_value:.4g}, epoch {self.best_epoch}) '
                'is not there: the best begins anew'
            )
        return None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self._training:
            return
        metrics = metrics or {}
        if self.metric not in metrics:
            raise InputError(
                f'BestCheckpointHook: validation gives no {self.metric!r}; there is {", ".join(sorted(metrics))}'
            )
        self.last_value = float(metrics[self.metric])
        if not math.isfinite(self.last_value):
            runner.logger.warning(
                f'{self.metric} is {self.last_value} after epoch {runner.epoch}: not kept as {self.filename}'
            )
        elif self.best_value is None or BETTER[self.rule](self.last_value, self.best_value):
            if is_main_process():
                self._save(runner, self.last_value)
            self.best_value, self.best_epoch = self.last_value, runner.epoch

    def _save(self, runner: Runner, value: float) -> None:
        meta = {
            'classes': [str(name) for name in runner.val_dataloader.dataset.metainfo['classes']],
            'config': runner.cfg.pretty_text,
            'metric': self.metric,
            'value': value,
            'epoch': runner.epoch,
            'iter': runner.iter,
            'seed': runner.seed,
            'photos': len(runner.val_dataloader.dataset),
            'processes': runner.world_size,
            'dataset_digest': dataset_digest(runner.train_dataloader.dataset),
            'versions': {
                module.__name__: str(module.__version__)
                for module in (custom_modules, torch, mmengine, mmpretrain, mmcv)
            },
            'run': self.run,
            'pretrained': runner.cfg.get('pretrained'),
        }
        save_atomically({'state_dict': plain_state_dict(runner.model), 'meta': meta}, self.path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['BestCheckpointHook'] = {
            'run': self.run,
            'best_value': self.best_value,
            'best_epoch': self.best_epoch,
            'last_value': self.last_value,
            'dataset_digest': dataset_digest(runner.train_dataloader.dataset),
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume and 'BestCheckpointHook' in checkpoint:
            for name, value in checkpoint['BestCheckpointHook'].items():
                setattr(self, name, value)

    def after_train(self, runner: Runner) -> None:
        if self.best_value is None:
            runner.logger.warning(f'{self.metric} was never finite: no {self.filename} was kept')
        else:
            last = 'none' if self.last_value is None else f'{self.last_value:.4f}'
            runner.logger.info(
                f'{self.metric}: best {self.best_value:.4f} (epoch {self.best_epoch}, {self.path}), last {last}'
            )


def plain_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights on the CPU, under the keys they have without DDP or :func:`torch.compile` around the model."""
    while is_model_wrapper(model):
        model = model.get_submodule('module')
    return {key.replace('_orig_mod.', ''): value.detach().cpu() for key, value in model.state_dict().items()}


def dataset_digest(dataset: object) -> str | None:
    """Digest of the manifest that lies beside the dataset's annotations, or None where there is none."""
    data_root = getattr(dataset, 'data_root', None)
    return read_manifest_digest(Path(data_root)) if data_root else None
