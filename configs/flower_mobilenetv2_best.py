"""MobileNetV2 for accuracy: the fast recipe with time to end. Nothing else that was tried paid (README, Results).

python tools/fetch_weights.py mobilenet_v2
python tools/train.py configs/flower_mobilenetv2_best.py
"""

_base_ = 'flower_mobilenetv2_fast.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, T_max=9, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
