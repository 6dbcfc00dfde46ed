"""Convolutions that train faster on processors with AVX2 alone: their weight gradient, and nothing else, is ours."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]

PATCHES = 2**21  # values laid out at once, 8 MB, or one photo's: more took more memory and was no faster
FEWEST_CHANNELS = 64  # in and out: between fewer, the matrices are too narrow to gain


def im2col_pays(device: str) -> bool:
    """Whether :class:`Im2colConv2d` is faster on ``device`` than oneDNN.

    It is on x86 processors with AVX2 and without AVX-512: on two such cores oneDNN computes the weight gradients of
    ResNet18's 3 x 3 convolutions, channels innermost, at 30 to 115 GFLOP/s, the rest of them at 115 to 160.
    """
    return device == 'cpu' and torch.backends.cpu.get_cpu_capability() == 'AVX2'


def to_im2col(model: nn.Module) -> nn.Module:
    """Makes an :class:`Im2colConv2d` of each convolution that it can stand in for, in place."""
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.kernel_size != (1, 1)
            and min(module.in_channels, module.out_channels) >= FEWEST_CHANNELS
            and module.bias is None
            and (module.groups, module.dilation) == (1, (1, 1))
            and module.padding_mode == 'zeros'
            and not isinstance(module.padding, str)
        ):
            module.__class__ = Im2colConv2d
    return model


class Im2colConv2d(nn.Conv2d):
    """A convolution that computes its weight gradient by im2col and matrix multiplication.

    For what :func:`to_im2col` picks: no groups, no dilation, padded with zeros if at all. It can be differentiated
    once, and neither scripted nor traced while gradients are on.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and weight.requires_grad and bias is None and not torch.is_autocast_enabled('cpu'):
            return _Im2colConvolution.apply(input, weight, self.stride, self.padding)
        return super()._conv_forward(input, weight, bias)


class _Im2colConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = stride, padding
        return F.conv2d(inputs, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inputs, weight), (stride, padding) = ctx.saved_tensors, ctx.geometry
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs, _, _ = torch.ops.aten.convolution_backward(
                gradient, inputs, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
            )
        return of_inputs, weight_gradient(inputs, gradient, weight.shape[2:], stride, padding), None, None


def weight_gradient(inputs: Tensor, gradient: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The gradient of a convolution's weights, a few photos at a time.

    im2col lays out, for each place of the output, the patch of the input that it was computed from; the gradient is
    the product of these patches and the output's gradient (Chellapilla, Puri and Simard 2006, section 3).

    Args:
        inputs: (N, C, H, W), channels innermost.
        gradient: (N, D, H', W'), of the output.
        kernel: Height and width of the weights.
        stride: Down and across.
        padding: Above and left, as much below and right.

    Returns:
        (D, C, height, width).
    """
    photos, channels, rows, columns = inputs.shape
    depth, places = gradient.shape[1], gradient.shape[2:]
    (height, width), (down, across), (top, left) = kernel, stride, padding
    together = max(1, min(photos, PATCHES // (places.numel() * height * width * channels)))
    padded = inputs.new_zeros(together, rows + 2 * top, columns + 2 * left, channels)
    photo, row, column, _ = padded.stride()
    patches = padded.as_strided(
        (together, *places, height, width * channels), (photo, row * down, column * across, row, 1)
    )
    inside = padded[:, top : top + rows, left : left + columns]
    result = inputs.new_zeros(height * width * channels, depth)
    parts = (tensor.permute(0, 2, 3, 1).split(together) for tensor in (inputs, gradient))
    for inputs_part, gradient_part in zip(*parts, strict=True):
        count = len(inputs_part)
        inside[:count] = inputs_part
        result.addmm_(patches[:count].reshape(-1, len(result)).t(), gradient_part.reshape(-1, depth))
    return result.t().view(depth, height, width, channels).permute(0, 3, 1, 2)
