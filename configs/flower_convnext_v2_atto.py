"""ConvNeXt V2 atto from ImageNet weights. Not measured here.

python tools/fetch_weights.py convnext_v2_atto
python tools/train.py configs/flower_convnext_v2_atto.py
"""

_base_ = [
    '_base_/flower_dataset.py',
    '_base_/default_runtime.py',
    '_base_/finetune.py',
    'mmpretrain::_base_/models/convnext_v2/atto.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/convnext_v2_atto.pth', prefix='backbone')),
    head=dict(num_classes={{_base_.num_classes}}, topk=(1,), cal_acc=True),
)
