"""The catalogue of ImageNet weights: file names, sources, licences."""

from pathlib import Path
from typing import Any, NamedTuple

from custom_modules.errors import InputError
from custom_modules.files import command_line

NOTES = {
    '9a5d89c693aec7733ae8029d7336ae694a3be3882675ddbb5554d7fd772cec84': (
        'partly pretrained: stem, layer1-3 and layer4.0.downsample are the ImageNet originals, layer4.0.conv1/2 come '
        'from a coarsely quantised copy, layer4.1 is untrained; results are not those of a pretrained ResNet18'
    ),
}
"""Remarks about source files, by their sha256."""

LICENCES = (
    'MMPretrain is Apache-2.0, torchvision BSD-3-Clause. The weights were trained on ImageNet, whose own terms allow '
    'non-commercial research and education.'
)
"""As checkpoints/README.md has it."""


class Weights(NamedTuple):
    """One model's weights; its name with ``.pth`` is the file that configs use."""

    sources: dict[str, str]  # publishers and URLs, to try in order; a name ends in the first 8 digits of its sha256
    backbone: dict[str, Any]  # MMPretrain's, as its base config has it
    timm_name: str = ''  # of the model in timm with the same layers in the same order, if there is one


def _sources(zoo: str, torchvision: str = '') -> dict[str, str]:
    """The servers, in order.

    A test compares them with mmpretrain's metafiles and torchvision's weights enums. The zoo's domain lapsed in June
    2026 (mmdetection #12445-7); the mirror of the maintained fork has its files under the same paths.
    """
    mirror = 'https://mmassets.onedl.ai'
    sources = {
        'OpenMMLab model zoo': f'https://download.openmmlab.com/mmclassification/v0/{zoo}',
        'mirror of onedl-mmpretrain': f'{mirror}/mmclassification/v0/{zoo}',
    }
    return {**sources, 'torchvision': f'https://download.pytorch.org/models/{torchvision}'} if torchvision else sources


# MobileNetV3: the zoo's conversion of torchvision's weights, better than the zoo's own and the same from every
# server. Of torchvision's two for ResNet50, the one nearer to the zoo's (top-1 76.1 and 76.6; the newer one has 80.9).
WEIGHTS: dict[str, Weights] = {
    'mobilenet_v2': Weights(
        _sources('mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth', 'mobilenet_v2-b0353104.pth'),
        {'type': 'MobileNetV2', 'widen_factor': 1.0},
        'mobilenetv2_100',
    ),
    'resnet18': Weights(
        _sources('resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth', 'resnet18-f37072fd.pth'),
        {'type': 'ResNet', 'depth': 18, 'num_stages': 4, 'out_indices': (3,), 'style': 'pytorch'},
        'resnet18',
    ),
    'resnet50': Weights(
        _sources('resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth', 'resnet50-0676ba61.pth'),
        {'type': 'ResNet', 'depth': 50, 'num_stages': 4, 'out_indices': (3,), 'style': 'pytorch'},
        'resnet50',
    ),
    'mobilenet_v3_large': Weights(
        _sources('mobilenet_v3/convert/mobilenet_v3_large-3ea3c186.pth', 'mobilenet_v3_large-8738ca79.pth'),
        {'type': 'MobileNetV3', 'arch': 'large'},
        'mobilenetv3_large_100',
    ),
    'mobilenet_v3_small': Weights(
        _sources('mobilenet_v3/convert/mobilenet_v3_small-8427ecf0.pth', 'mobilenet_v3_small-047dcff4.pth'),
        {'type': 'MobileNetV3', 'arch': 'small'},
        'mobilenetv3_small_100',
    ),
    # torchvision's and timm's own EfficientNet-B0 pad otherwise, timm's tf_ as the zoo's.
    'efficientnet_b0': Weights(
        _sources('efficientnet/efficientnet-b0_3rdparty_8xb32_in1k_20220119-a7e2a0b1.pth'),
        {'type': 'EfficientNet', 'arch': 'b0'},
        'tf_efficientnet_b0',
    ),
    'convnext_v2_atto': Weights(
        _sources('convnext-v2/convnext-v2-atto_fcmae-pre_3rdparty_in1k_20230104-23765f83.pth'),
        {'type': 'ConvNeXt', 'arch': 'atto', 'layer_scale_init_value': 0.0, 'use_grn': True},
    ),
    'deit_tiny': Weights(
        _sources('deit/deit-tiny_pt-4xb256_in1k_20220218-13b382a0.pth'),
        {'type': 'VisionTransformer', 'arch': 'deit-tiny', 'img_size': 224, 'patch_size': 16},
        'deit_tiny_patch16_224',
    ),
    'swin_tiny': Weights(
        _sources('swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'),
        {'type': 'SwinTransformer', 'arch': 'tiny', 'img_size': 224},
    ),
}


def require_file(path: Path) -> None:
    """Raises an :class:`InputError` unless a checkpoint exists, with the command that provides it if there is one."""
    if path.is_file():
        return
    fetch = ''
    if path.suffix == '.pth' and path.stem in WEIGHTS:
        out = () if path.parent.name == 'checkpoints' else ('--out', path.parent)
        fetch = f' Get it with: {command_line("tools/fetch_weights.py", path.stem, *out)}'
    raise InputError(f'{path}: no such file.{fetch}')
