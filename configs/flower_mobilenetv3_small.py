"""MobileNetV3-Small from ImageNet weights. Not measured here yet.

python tools/fetch_weights.py mobilenet_v3_small
python tools/train.py configs/flower_mobilenetv3_small.py
"""

_base_ = 'flower_mobilenetv3.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='checkpoints/mobilenet_v3_small.pth')),
    head=dict(in_channels=576, mid_channels=[1024]),
)
