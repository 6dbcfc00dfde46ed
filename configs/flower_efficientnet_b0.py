"""EfficientNet-B0 from ImageNet weights. Not measured here.

python tools/fetch_weights.py efficientnet_b0
python tools/train.py configs/flower_efficientnet_b0.py
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    '_base_/finetune.py',
    'mmpretrain::_base_/models/efficientnet_b0.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet_b0.pth', prefix='backbone')),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
)
