"""How the numbers are computed: memory layout, allocator, batch norm, precision. Not what is computed."""

import copy
import ctypes
import platform

import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

# <malloc.h>: parameters of mallopt
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Has this process keep the memory that it frees, for the next tensor; whether the C library can be told so.

    A tensor of more than 32 MB is otherwise a mapping of its own for glibc, given back when the tensor is freed: each
    training step then has the kernel clear gigabytes anew, page by page. Without that, MobileNetV2 trains at 224 px
    and batch 32 nearly twice as fast on two cores. Only glibc has the setting; elsewhere nothing is done. Processes
    started by fork inherit it.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def channels_last_pays(device: str, mixed_precision: bool = False) -> bool:
    """Whether convolutions are faster on ``device`` with the channels innermost.

    On a CPU they are (oneDNN). On a GPU they are in half precision, for tensor cores want that layout; in float32 it
    depends on GPU and layer (docs.pytorch.org, *Channels Last Memory Format*), so the layout stays as upstream's.
    """
    return device == 'cpu' or mixed_precision


def to_channels_last(model: nn.Module) -> nn.Module:
    """Lays out the weights of convolutions with the channels innermost, in place; their outputs take after them.

    Not those of 1 x 1 with a stride on fewer than eight channels, as RepVGG has on the photo: with AVX2, oneDNN's
    gradient of such weights writes where it must not, and the process crashes (seen with torch 2.14.1).
    """
    model.to(memory_format=torch.channels_last)
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) != conv.stride and conv.in_channels < 8:
            conv.weight.data = conv.weight.data.clone(memory_format=torch.contiguous_format)
    return model


def without_batch_norm(model: nn.Module) -> nn.Module:
    """A classifier in evaluation mode whose convolutions do what batch norm did; itself if they cannot.

    Batch norm with fixed statistics scales and shifts each channel, as a convolution's weights and bias can. mmcv
    takes a batch norm for that of the convolution defined before it, which a model of your own may see otherwise: so a
    random photo is asked before and after, and where the logits differ by more than rounding, the model stays as it
    is.
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
