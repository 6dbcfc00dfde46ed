"""Hooks, logging and environment that all configs share: MMPretrain's defaults plus what this project registers.

The only place with ``custom_imports``: where two base files have one, the later list would win.
"""

_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(
    imports=[
        'custom_modules.datasets.flower_dataset',
        'custom_modules.datasets.transforms.load_photo',
        'custom_modules.datasets.transforms.load_random_resized_crop',
        'custom_modules.datasets.transforms.pack_photo',
        'custom_modules.datasets.transforms.random_rotate_translate',
        'custom_modules.datasets.transforms.recompress_jpeg',
        'custom_modules.engine.hooks.alarms_hook',
        'custom_modules.engine.hooks.augmented_photos_hook',
        'custom_modules.engine.hooks.best_checkpoint_hook',
        'custom_modules.models.checkpoints',
        'custom_modules.engine.hooks.curves_hook',
        'custom_modules.engine.hooks.linear_probe_hook',
        'custom_modules.engine.linear_probe_loop',
        'custom_modules.engine.hooks.mid_epoch_checkpoint_hook',
        'custom_modules.engine.hooks.resumable_early_stopping_hook',
        'custom_modules.engine.resumable_train_loop',
        'custom_modules.engine.hooks.seed_hook',
        'custom_modules.engine.hooks.validate_on_resume_hook',
        'custom_modules.engine.hooks.validation_board_hook',
        'custom_modules.metrics.nll_metric',
    ],
    allow_failed_imports=False,
)

default_hooks = dict(
    # Upstream's interval of 100 is longer than an epoch of a small dataset: no line at all (mmpretrain #616).
    logger=dict(interval=20),
    # The newest two can be resumed from; the best one is kept apart, in best.pth.
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type='BestCheckpointHook', metric='accuracy/top1'),
    dict(type='CurvesHook'),
    dict(type='AugmentedPhotosHook'),
    # Batch-norm statistics differ between processes until this hook averages them before each validation.
    dict(type='SyncBuffersHook'),
    dict(type='SeedHook'),
    dict(type='MidEpochCheckpointHook'),
    dict(type='ValidateOnResumeHook'),
    dict(type='AlarmsHook'),
    dict(type='ValidationBoardHook'),
]

# Seconds until a process that hangs ends the others; one that dies ends them at once. Upstream: 1800 on a CPU.
env_cfg = dict(dist_cfg=dict(timeout=600))
log_processor = dict(log_with_hierarchy=True)  # TensorBoard tags in groups: train/loss, val/accuracy/top1, ...
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)
randomness = dict(seed=0)
