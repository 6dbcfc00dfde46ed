"""flower_mobilenetv2_best.py with Mixup or CutMix for each batch."""

_base_ = '../flower_mobilenetv2_best.py'

model = dict(
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
    head=dict(cal_acc=False, loss=dict(type='CrossEntropyLoss', use_soft=True)),
)
