"""DeiT-tiny (a small ViT) from ImageNet weights. Not measured here.

python tools/fetch_weights.py deit_tiny
python tools/train.py configs/flower_deit_tiny.py
"""

_base_ = ['_base_/flower_dataset.py', '_base_/default_runtime.py', '_base_/finetune.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-tiny',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/deit_tiny.pth', prefix='backbone'),
    ),
    head=dict(type='LinearClsHead', num_classes={{_base_.num_classes}}, in_channels=192, cal_acc=True),
)
