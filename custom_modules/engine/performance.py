"""Speed settings of a model: memory layout, allocator, fused batch norm and half precision."""

import copy
import ctypes
import platform

import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

# <malloc.h>: parameters of mallopt
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Lets this process reuse the memory that it frees; returns whether the C library has that setting.

    glibc otherwise returns tensors of more than 32 MB to the kernel, which clears the memory of each new one page by
    page. MobileNetV2 trains nearly twice as fast with it at 224 px and batch 32 on two cores. Only glibc has the
    setting. Processes started by fork inherit it.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def channels_last_pays(device: str, mixed_precision: bool = False) -> bool:
    """Whether convolutions are faster on ``device`` with the channels innermost.

    On a CPU they are (oneDNN). On a GPU they are in half precision, on tensor cores; in float32 it depends on GPU and
    layer (docs.pytorch.org, *Channels Last Memory Format*), so upstream's layout stays.
    """
    return device == 'cpu' or mixed_precision


def to_channels_last(model: nn.Module) -> nn.Module:
    """Lays out the weights of convolutions with the channels innermost, in place; their outputs follow.

    Strided 1 x 1 convolutions with fewer than 8 input channels (RepVGG's stem) are left out: oneDNN's gradient of
    their weights crashes with AVX2 (seen with torch 2.14.1).
    """
    model.to(memory_format=torch.channels_last)
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) != conv.stride and conv.in_channels < 8:
            conv.weight.data = conv.weight.data.clone(memory_format=torch.contiguous_format)
    return model


def without_batch_norm(model: nn.Module) -> nn.Module:
    """A classifier in evaluation mode with batch norm folded into its convolutions; itself where that fails.

    mmcv folds a batch norm into the convolution defined before it, which can be the wrong one in a model of your own.
    So the logits of a random image are compared, and where they differ by more than rounding, the model is kept.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    device = next(model.parameters()).device
    photo = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    fused = fuse_conv_bn(copy.deepcopy(model))
    with torch.inference_mode():
        logits, same = model(photo, mode='tensor'), fused(photo, mode='tensor')
    return fused if torch.allclose(logits, same, rtol=1e-4, atol=1e-4, equal_nan=True) else model


def half_precision() -> str:
    """The half precision that suits the accelerator: ``'bfloat16'``, which hardly overflows, where it is native."""
    native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return 'bfloat16' if native else 'float16'
