"""TensorBoard's pictures and curves of each validation, and the hyperparameters of the run."""

from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import TensorboardVisBackend
from mmpretrain.registry import HOOKS
from torch.nn.functional import interpolate
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from custom_modules.datasets.class_counts import innermost
from custom_modules.engine.hooks.augmented_photos_hook import photo_grid
from custom_modules.engine.hooks.best_checkpoint_hook import BestCheckpointHook
from custom_modules.engine.loops import bare_model, steps_done
from custom_modules.metrics.confusion import confusion_matrix
from custom_modules.metrics.plots import as_array, confusion

LAYOUT = {
    'training and validation': {
        'loss': ['Multiline', ['epoch/loss_train', 'epoch/loss_val']],
        'top-1 accuracy, %': ['Multiline', ['epoch/accuracy_train', 'epoch/accuracy_val']],
        'learning rate': ['Multiline', ['epoch/lr']],
    }
}
THUMBNAIL = 48, 48  # pixels


@HOOKS.register_module()
class ValidationBoardHook(Hook):
    """Adds a confusion matrix, precision-recall curves and misclassified photos to TensorBoard after each validation.

    Once a run: a custom-scalars layout, and the hyperparameters with the best and last top-1.

    Args:
        photos: How many misclassified photos to show, those with the highest wrong score first. Defaults to 16.
        projector: Whether to add the validation photos' features to the embedding projector when the training ends,
            which takes another pass over them. Defaults to False.
        accuracy: Key of the validation accuracy, in percent. Defaults to 'accuracy/top1'.
    """

    priority = 'LOW'

    def __init__(self, photos: int = 16, projector: bool = False, accuracy: str = 'accuracy/top1') -> None:
        self.photos = photos
        self.projector = projector
        self.accuracy = accuracy
        self._last: float | None = None

    def before_train(self, runner: Runner) -> None:
        if writer := board(runner):
            writer.add_custom_scalars(LAYOUT)

    def before_val_epoch(self, runner: Runner) -> None:
        self._found: list[tuple[str, int, list[float]]] = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._found += [(sample.img_path, int(sample.gt_label), sample.pred_score.tolist()) for sample in outputs]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._last = (metrics or {}).get(self.accuracy)
        found = collect_results(self._found, len(runner.val_dataloader.dataset))
        writer = board(runner)
        if writer is None or not found:
            return
        classes = runner.val_dataloader.dataset.metainfo['classes']
        paths, truths, scores = (np.array(column) for column in zip(*found, strict=True))
        labels = scores.argmax(1)
        matrix = confusion(confusion_matrix(truths, labels, len(classes)), classes)
        writer.add_image('validation/confusion matrix', as_array(matrix), steps_done(runner), dataformats='HWC')
        for label, name in enumerate(classes):
            writer.add_pr_curve(f'precision-recall/{name}', truths == label, scores[:, label], steps_done(runner))
        wrong = np.flatnonzero(labels != truths)
        if worst := sorted(wrong, key=lambda i: -scores[i].max())[: self.photos]:
            names = [f'{classes[truths[i]]}\nas {classes[labels[i]]} {scores[i].max():.2f}' for i in worst]
            grid = photo_grid([mmcv.imread(str(paths[i]), channel_order='rgb') for i in worst], names)
            writer.add_image('validation/misclassified photos', grid, steps_done(runner), dataformats='HWC')

    def after_train(self, runner: Runner) -> None:
        writer = board(runner)
        if writer is None:
            return
        best = next((hook.best_value for hook in runner.hooks if isinstance(hook, BestCheckpointHook)), None)
        results = {'hparam/best_top1': best, 'hparam/last_top1': self._last}
        known = {tag: value for tag, value in results.items() if value is not None}
        for summary in hparams(hyperparameters(runner), known):
            writer._get_file_writer().add_summary(summary)
        for tag, value in known.items():
            writer.add_scalar(tag, value, steps_done(runner))
        if self.projector and runner.val_loop is not None:
            add_embeddings(runner, writer)


def board(runner: Runner) -> SummaryWriter | None:
    """The writer of the run's TensorBoard; None without one, or in a process other than the first."""
    if not is_main_process():
        return None
    backends = runner.visualizer._vis_backends.values()
    return next((backend.experiment for backend in backends if isinstance(backend, TensorboardVisBackend)), None)


def hyperparameters(runner: Runner) -> dict[str, str | float | int]:
    """The settings that TensorBoard compares runs by."""
    optimizer = runner.optim_wrapper.optimizer
    return {
        'backbone': runner.cfg.model.backbone.type,
        'optimizer': type(optimizer).__name__,
        'lr': float(optimizer.defaults['lr']),
        'weight decay': float(optimizer.defaults.get('weight_decay', 0)),
        'batch size': runner.train_dataloader.batch_size * runner.world_size,
        'epochs': runner.max_epochs,
        'seed': runner.seed,
        'data': str(innermost(runner.cfg.train_dataloader.dataset).get('data_root')),
    }


@torch.inference_mode()
def add_embeddings(runner: Runner, writer: SummaryWriter) -> None:
    """Adds the features of each validation photo, (N, C), with its class and a thumbnail."""
    model = bare_model(runner).eval()
    classes = runner.val_dataloader.dataset.metainfo['classes']
    features, names, thumbnails = [], [], []
    for batch in runner.val_dataloader:
        names += [classes[int(sample.gt_label)] for sample in batch['data_samples']]
        for image in batch['inputs']:  # (3, H, W) uint8 BGR
            thumbnails.append(interpolate(image.flip(0)[None] / 255, THUMBNAIL, mode='area'))
        found = model.extract_feat(model.data_preprocessor(batch)['inputs'])
        features.append((found[-1] if isinstance(found, tuple) else found).flatten(1).float().cpu())
    writer.add_embedding(torch.cat(features), names, torch.cat(thumbnails), runner.epoch, 'validation photos')
