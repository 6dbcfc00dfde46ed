"""flower_mobilenetv2_fast.py for ten epochs, from a random head: flower_mobilenetv2_best.py up to version 1.0."""

_base_ = 'small_photos.py'

model = dict(backbone=dict(frozen_stages=4, norm_eval=True))
train_dataloader = dict(drop_last=False)
default_hooks = dict(ema=dict(_delete_=True, type='EMAHook', momentum=0.02))
