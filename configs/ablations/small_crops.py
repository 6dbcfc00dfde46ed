"""flower_mobilenetv2_best.py with crops of ImageNet's range, from 8 % of the photo."""

_base_ = '../flower_mobilenetv2_best.py'

train_pipeline = [
    dict(type='LoadRandomResizedCrop', scale=224, flip_prob=0.5),
    dict(type='PackPhoto'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
