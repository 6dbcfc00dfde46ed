"""A backbone of timm, here MobileNetV4-Conv-Small, from timm's own weights. Not measured here.

pip install timm
python tools/train.py configs/flower_timm.py

Another one: its ``model_name``, and its number of features as ``head.in_channels``. ``pretrained=True`` needs network.
Vision transformers also need ``features_only=True, out_indices=[-1]``.
"""

_base_ = ['_base_/flower_dataset.py', '_base_/default_runtime.py', '_base_/finetune.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='TIMMBackbone', model_name='mobilenetv4_conv_small', pretrained=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes={{_base_.num_classes}}, in_channels=1280, cal_acc=True),
)
