"""Swin-T from ImageNet weights. Not measured here.

python tools/fetch_weights.py swin_tiny
python tools/train.py configs/flower_swin_tiny.py
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    '_base_/finetune.py',
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/swin_tiny.pth', prefix='backbone')),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
    train_cfg=None,  # upstream: Mixup and CutMix, for 300 epochs
)
