"""MobileNetV2 for accuracy: the fast recipe with ten epochs, and a head that starts at random.

python tools/fetch_weights.py mobilenet_v2
python tools/train.py configs/flower_mobilenetv2_best.py --seeds 0 1 2
python tools/soup.py work_dirs/flower_mobilenetv2_best/seed_*
"""

_base_ = 'flower_mobilenetv2_fast.py'

default_hooks = dict(linear_probe=None)  # saves time, but costs points in the end: configs/ablations/linear_probe.py
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, T_max=9, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
