"""ResNet50 from ImageNet weights, by report 2's recipe. Not measured here yet.

python tools/fetch_weights.py resnet50
python tools/train.py configs/flower_resnet50.py
"""

_base_ = 'flower_resnet18.py'

model = dict(
    backbone=dict(depth=50, init_cfg=dict(checkpoint='checkpoints/resnet50.pth')),
    head=dict(in_channels=2048),
)
