"""flower_mobilenetv2_best.py for five epochs."""

_base_ = '../flower_mobilenetv2_best.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, T_max=4, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=5)
