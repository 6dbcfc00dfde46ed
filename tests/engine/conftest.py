"""One tiny real run: eight 4-pixel photos of two kinds, a linear classifier, MMEngine's own Runner on the CPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

import custom_modules.register  # noqa: F401  MMEngine reads and writes checkpoints as in a run


class TinyPhotos(Dataset):
    """Photos of 2x2 pixels whose brightness tells the class."""

    metainfo = {'classes': ('dark', 'bright')}
    data_root = ''

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        brightness = 40 if index < 4 else 200
        photo = torch.full((3, 2, 2), brightness, dtype=torch.uint8)
        photo[0] = index  # blue
        sample = DataSample(metainfo={'img_path': f'{index}.jpg'})
        return {'inputs': photo, 'data_samples': sample.set_gt_label(int(index >= 4))}


class TinyClassifier(BaseModel):
    """A linear layer on the pixels; gives what MMPretrain's classifiers give."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(12, 2)

    def forward(self, inputs: list, data_samples: list, mode: str = 'tensor') -> object:
        logits = self.fc(torch.stack(list(inputs)).float().flatten(1) / 255)
        target = torch.cat([sample.gt_label for sample in data_samples])
        if mode == 'loss':
            accuracy = 100 * (logits.argmax(1) == target).float().mean()
            return {'loss': torch.nn.functional.cross_entropy(logits, target), 'accuracy_top-1': accuracy}
        for sample, score in zip(data_samples, logits.softmax(1), strict=True):
            sample.set_pred_score(score)
        return data_samples


class Scripted(BaseMetric):
    """Gives ``accuracy/top1`` from a list, one entry a validation; what the model does is left to other metrics."""

    default_prefix = 'accuracy'

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.extend(0 for _ in data_samples)

    def compute_metrics(self, results: list) -> dict:
        return {'top1': next(self.values)}


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., Runner]:
    """A function that builds the run: ``tiny_run(hooks, epochs=2, accuracies=[50.0, 75.0], resume=False, …)``."""
    count = 0

    def build(
        hooks: list,
        epochs: int = 2,
        accuracies: list[float] | None = None,
        metrics: list | None = None,
        validate: bool = True,
        work_dir: Path = tmp_path,
        kind: type[Runner] = Runner,
        sampler: str = 'DefaultSampler',
        workers: int = 0,
        **more: object,
    ) -> Runner:
        nonlocal count
        count += 1
        loader = {
            'dataset': TinyPhotos(),
            'batch_size': 3,
            'num_workers': workers,
            'collate_fn': {'type': 'pseudo_collate'},
        }
        val = {}
        if validate:
            evaluator = [Scripted(accuracies or [50.0] * epochs), *(metrics or [])]
            val = {
                'val_dataloader': {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
                'val_cfg': {},
                'val_evaluator': evaluator,
            }
        torch.manual_seed(0)
        settings = {
            'train_dataloader': {**loader, 'sampler': {'type': sampler, 'shuffle': True}},
            'train_cfg': {'by_epoch': True, 'max_epochs': epochs},
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.5}},
            'param_scheduler': {'type': 'StepLR', 'step_size': 1, 'gamma': 0.1},
            'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
            'randomness': {'seed': 0},
            'default_scope': 'mmpretrain',
            'experiment_name': f'{tmp_path.name}_{count}',
            'cfg': Config({'note': 'tiny'}),
        }
        return kind(TinyClassifier(), str(work_dir), custom_hooks=hooks, **{**settings, **val, **more})

    return build
