# ruff: noqa: F401
"""Registers all classes of this package, and its reading and writing of checkpoints; named in ``custom_imports``.

To add a hook, transform, metric or model: write it in its folder, one class per file, and import the file here. A hook
that needs validation also belongs in ``engine/run_config.py: VALIDATION_HOOKS``.
"""

from mmengine.fileio import register_backend
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.datasets import PackInputs
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets import flower_dataset
from custom_modules.datasets.transforms import (
    load_photo,
    load_random_resized_crop,
    random_rotate_translate,
    recompress_jpeg,
)
from custom_modules.engine import loops
from custom_modules.engine.hooks import (
    alarms_hook,
    augmented_photos_hook,
    best_checkpoint_hook,
    curves_hook,
    linear_probe_hook,
    mid_epoch_checkpoint_hook,
    resumable_early_stopping_hook,
    seed_hook,
    validate_on_resume_hook,
    validation_board_hook,
)
from custom_modules.metrics import nll_metric
from custom_modules.models import onnx_classifier
from custom_modules.models.checkpoints import AtomicLocalBackend, load_checkpoint
from custom_modules.upstream import patch_tools, patch_upstream

patch_upstream()
patch_tools()
TRANSFORMS.register_module(name='PackPhoto', module=PackInputs, force=True)  # its name in configs until 2.4
register_backend('local', AtomicLocalBackend, force=True, prefixes='')
CheckpointLoader.register_scheme(prefixes='', loader=load_checkpoint, force=True)
