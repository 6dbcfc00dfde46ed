"""Prepares a run: checks its config, builds its datasets and loads its checkpoint, each once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, MODELS

from custom_modules.datasets.class_counts import class_weights, folder_of, innermost, labels_of
from custom_modules.datasets.transforms.reduced_decoding import decode_reduced
from custom_modules.engine.config_validation import parameters
from custom_modules.engine.preflight import (
    CONFIG_CHECKS,
    TEST_CHECKS,
    TRAIN_CHECKS,
    class_names,
    describe_pretrained,
    run_checks,
)
from custom_modules.errors import InputError, as_configured, collect, refuse
from custom_modules.models.checkpoints import load_checkpoint
from custom_modules.models.saved_config import config_text, parse_config


@dataclass(frozen=True)
class Run:
    """What a training or a test starts from; ``PreparedRunner.from_run`` builds its runner.

    Attributes:
        cfg: The config, completed and checked.
        datasets: The built datasets by loader: ``'train'``, ``'val'``, ``'test'``.
        checkpoint: The loaded checkpoint that ``cfg.load_from`` names; None without one.
        needs_pretrained: Whether training without pretrained weights is warned of.
        warnings: What the checks warn of.
    """

    cfg: Config
    datasets: Mapping[str, Any]
    checkpoint: dict | None = None
    needs_pretrained: bool = True
    warnings: list[str] = field(default_factory=list)

    @property
    def model(self) -> ConfigDict:
        """The settings of the model, without the wrapper for test-time augmentation."""
        return self.cfg.model.module if self.cfg.model.get('type') == 'AverageClsScoreTTA' else self.cfg.model

    @property
    def dataset(self) -> Any:
        """The training dataset, or in a test the tested one."""
        return next(iter(self.datasets.values()), None)

    @property
    def classes(self) -> list[str]:
        """The class names of the dataset in label order; empty for a dataset that names none."""
        return class_names(self.dataset)

    @property
    def digest(self) -> str | None:
        """The digest that identifies the dataset; None where it has no manifest."""
        return getattr(innermost(self.dataset), 'digest', None)

    @property
    def data_root(self) -> str:
        """The folder of the dataset, for messages."""
        folder = folder_of(self.dataset)
        return str(folder) if folder.parts else 'the dataset'


def prepare_run(
    cfg: Config,
    loaders: Sequence[str],
    checkpoint: dict | None = None,
    needs_pretrained: bool = True,
) -> Run:
    """Builds the datasets, loads the checkpoint, and checks all of them with the config; writes nothing.

    Args:
        cfg: The config, already fitted to the device by ``set_up_device``.
        loaders: The loaders in use: ``['train', 'val']`` or ``['test']``.
        checkpoint: The content of ``cfg.load_from`` where it is loaded already.
        needs_pretrained: Whether training without pretrained weights is warned of. Defaults to True.

    Raises:
        InputError: All errors at once.
    """
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')  # the Runner does so too, but datasets come first
    errors: list[str] = []
    warnings: list[str] = []
    run_checks(CONFIG_CHECKS, errors, warnings, cfg, loaders)
    refuse(errors)  # paths that cannot be read
    datasets: dict[str, Any] = {}
    for name in loaders:
        with collect(errors):
            datasets[name] = build_dataset(cfg, name)
    if 'train' in datasets:
        with collect(errors):
            balance_loss(cfg, datasets['train'])
    if cfg.get('load_from') and checkpoint is None:
        with collect(errors):
            checkpoint = load_checkpoint(cfg.load_from)
    run = Run(cfg, datasets, checkpoint, needs_pretrained, warnings)
    with collect(errors), as_configured('model.backbone.init_cfg'):
        if cfg.get('resume') and checkpoint:  # they are in it
            pretrained = parse_config(config_text(checkpoint.get('meta') or {}) or '').get('pretrained')
        else:
            pretrained = describe_pretrained(run.model.get('backbone') or {})
        if pretrained:
            cfg.pretrained = pretrained  # appears in the table of settings, in best.pth and in test results
    run_checks(TRAIN_CHECKS if 'train' in loaders else TEST_CHECKS, errors, warnings, run)
    refuse(errors)
    return run


def balance_loss(cfg: Config, dataset: Any) -> None:
    """Replaces ``class_weight='balanced'`` of the loss, in place, by the weights of the training images."""
    loss: Any = cfg.model.head.get('loss') or {}
    given, kind = loss.get('class_weight'), loss.get('type')
    if not isinstance(given, str):
        return
    if given != 'balanced':
        raise InputError(f"model.head.loss.class_weight: is {given!r}. Give 'balanced', or a number for each class.")
    built = MODELS.get(kind) if isinstance(kind, str) else kind
    if 'class_weight' not in parameters(built)[0]:
        name = built.__name__
        raise InputError(f'model.head.loss: a {name} takes no class weights. Use CrossEntropyLoss, or leave them out.')
    counts, classes = Counter(labels_of(dataset)), class_names(dataset)
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty or not classes:
        found = f'no photo of {", ".join(empty)}' if classes else 'no class names'
        raise InputError(f'train_dataloader.dataset: {found}, so the loss cannot be balanced. Add some.')
    loss.class_weight = class_weights([counts[label] for label in range(len(classes))])


def build_dataset(cfg: Config, loader: str) -> Any:
    """The dataset of a loader, with its annotations read."""
    with as_configured(f'{loader}_dataloader.dataset'):
        dataset = DATASETS.build(deepcopy(cfg[f'{loader}_dataloader'].dataset))
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        if hasattr(innermost(dataset), 'pipeline'):
            decode_reduced(innermost(dataset).pipeline)
    return dataset
