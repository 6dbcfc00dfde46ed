"""Hooks, logging and environment that all configs share: MMPretrain's defaults plus what this project registers.

The only place with ``custom_imports``: where two base files have one, the later list would win.
"""

_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['custom_modules.register'], allow_failed_imports=False)

default_hooks = dict(
    # Upstream's interval of 100 is longer than an epoch of a small dataset: no line at all (mmpretrain #616).
    logger=dict(interval=20),
    # The newest two can be resumed from; the best one is kept apart, in best.pth.
    checkpoint=dict(interval=1, max_keep_ckpts=2),
    best_checkpoint=dict(type='BestCheckpointHook', metric='accuracy/top1'),
    curves=dict(type='CurvesHook'),
    augmented_photos=dict(type='AugmentedPhotosHook'),
    # Averages batch-norm statistics of several processes before each validation, those of EMAHook too.
    sync_buffers=dict(type='SyncBuffersHook', priority='BELOW_NORMAL'),
    seed=dict(type='SeedHook'),
    mid_epoch_checkpoint=dict(type='MidEpochCheckpointHook'),
    validate_on_resume=dict(type='ValidateOnResumeHook'),
    alarms=dict(type='AlarmsHook'),
    validation_board=dict(type='ValidationBoardHook'),
)
custom_hooks = []  # yours; one of a type above replaces it

# Seconds until a process that hangs ends the others; one that dies ends them at once. Upstream: 1800 on a CPU.
env_cfg = dict(dist_cfg=dict(timeout=600))
log_processor = dict(log_with_hierarchy=True)  # TensorBoard tags in groups: train/loss, val/accuracy/top1, ...
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
# _delete_: mmpretrain's browse_dataset.py cannot read the `_scope_` that a base of another package leaves.
visualizer = dict(_delete_=True, type='UniversalVisualizer', vis_backends=vis_backends)
randomness = dict(seed=0)
