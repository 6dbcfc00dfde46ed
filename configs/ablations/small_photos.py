"""flower_mobilenetv2_best.py with photos of the fast recipe's size: 160 px, tested at 224."""

_base_ = '../flower_mobilenetv2_best.py'

train_pipeline = [
    dict(type='LoadRandomResizedCrop', scale=160, flip_prob=0.5, crop_ratio_range=(0.35, 1.0)),
    dict(type='PackPhoto'),
]
test_pipeline = [
    dict(type='LoadPhoto', min_short_edge=256),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackPhoto'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
