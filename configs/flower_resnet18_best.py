"""ResNet18 for accuracy: the fast recipe's optimizer and averaging for ten epochs, half of the network trained.

python tools/fetch_weights.py resnet18
python tools/train.py configs/flower_resnet18_best.py --seeds 0 1 2

Measured on 457 validation photos from PARTLY pretrained weights, so no measure of the model: top-1 96.94 % (443/457)
and 96.50 % (441/457), last epochs of seeds 0, 1.
"""

_base_ = 'flower_mobilenetv2_fast.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        frozen_stages=2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/resnet18.pth', prefix='backbone'),
    ),
    head=dict(in_channels=512),
)
default_hooks = dict(linear_probe=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, T_max=9, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=10)
