"""Convolutions that train faster on processors with AVX2 alone: their weight gradient, and nothing else, is ours."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]

VALUES = 2**23  # laid out at once, 32 MB, or one photo's; 2**21 took 3 to 28 % longer at batch 32 (Winograd)
FEWEST_CHANNELS = 64  # in and out: between fewer, the matrices are too narrow to gain


def gemm_gradients_pay(device: str) -> bool:
    """Whether :class:`GemmGradientConv2d` is faster on ``device`` than oneDNN.

    It is on x86 processors with AVX2 and without AVX-512: on two such cores oneDNN computes the weight gradients of
    ResNet18's 3 x 3 convolutions, channels innermost, at 30 to 115 GFLOP/s, the rest of them at 115 to 160.
    """
    return device == 'cpu' and torch.backends.cpu.get_cpu_capability() == 'AVX2'


def to_gemm_gradients(model: nn.Module) -> nn.Module:
    """Makes a :class:`GemmGradientConv2d` of each convolution that it can stand in for, in place."""
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
            module.__class__ = GemmGradientConv2d
    return model


class GemmGradientConv2d(nn.Conv2d):
    """A convolution that computes its weight gradient by matrix products.

    For what :func:`to_gemm_gradients` picks: no groups, no dilation, padded with zeros if at all. It can be
    differentiated once, by backward alone, and not be scripted, nor traced by ``torch.jit`` while gradients are on.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and weight.requires_grad and bias is None and not torch.is_autocast_enabled('cpu'):
            return _GemmGradientConvolution.apply(input, weight, self.stride, self.padding)
        return super()._conv_forward(input, weight, bias)


class _GemmGradientConvolution(torch.autograd.Function):
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
    """The gradient of a convolution's weights, by matrix products, a few photos at a time.

    Args:
        inputs: (N, C, H, W); copied if their channels are not innermost.
        gradient: (N, D, H', W'), of the output.
        kernel: Height and width of the weights.
        stride: Down and across.
        padding: Above and left, as much below and right.

    Returns:
        (D, C, height, width).
    """
    inputs, gradient = inputs.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    if (tuple(kernel), stride) == ((3, 3), (1, 1)):
        result = _by_winograd(inputs, gradient, padding)
    else:
        result = _by_im2col(inputs, gradient, kernel, stride, padding)
    return result.permute(0, 3, 1, 2)


def _by_im2col(inputs: Tensor, gradient: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """For any kernel: the product of the output's gradient and, for each of its places, the patch that it came from.

    Chellapilla, Puri and Simard 2006, *High Performance Convolutional Neural Networks for Document Processing*,
    section 3. Takes (N, H, W, C) and (N, H', W', D), returns (D, height, width, C).
    """
    (rows, columns, depth), channels = gradient.shape[1:], inputs.shape[3]
    (height, width), (down, across), (top, left) = kernel, stride, padding
    result = inputs.new_zeros(depth, height * width * channels)
    together = max(1, VALUES // (rows * columns * result.shape[1]))
    for photos, slopes in zip(inputs.split(together), gradient.split(together), strict=True):
        padded = F.pad(photos, (0, 0, left, left, top, top))
        patches = padded.unfold(1, height, down).unfold(2, width, across).permute(0, 1, 2, 4, 5, 3)
        result.addmm_(slopes.reshape(-1, depth).t(), patches.reshape(-1, result.shape[1]))
    return result.view(depth, height, width, channels)


def _by_winograd(inputs: Tensor, gradient: Tensor, padding: Pair) -> Tensor:
    """For 3 x 3 without a stride, in 4 multiplications where im2col has 9: the gradient of Winograd's F(2 x 2, 3 x 3).

    Lavin and Gray 2016, *Fast Algorithms for Convolutional Neural Networks*, section 4.1, compute a tile of the output
    as A' [(G g G') * (B' d B)] A from the weights g and a patch d of the input; so the weights' gradient is
    G' [(A y A') * (B' d B)] G, added up over the tiles y of the output's gradient. Takes (N, H, W, C) and
    (N, H', W', D), returns (D, 3, 3, C).
    """
    (rows, columns, depth), channels = gradient.shape[1:], inputs.shape[3]
    (top, left), (below, right) = padding, (rows % 2, columns % 2)  # what full tiles of 2 x 2 need beyond the padding
    result = inputs.new_zeros(16, depth, channels)
    together = max(1, VALUES // (4 * (rows + below) * (columns + right) * (channels + depth)))
    for patches, tiles in zip(inputs.split(together), gradient.split(together), strict=True):
        patches = F.pad(patches, (0, 0, left, left + right, top, top + below))
        if below or right:
            tiles = F.pad(tiles, (0, 0, 0, right, 0, below))
        for axis in (-2, -3):
            patches, tiles = _transformed_patches(patches, axis), _transformed_tiles(tiles, axis)
        result.baddbmm_(tiles.view(16, -1, depth).transpose(1, 2), patches.view(16, -1, channels))
    weights = result.view(4, 4, depth, channels)
    for axis in (0, 1):
        weights = _transformed_weights(weights, axis)
    return weights.permute(2, 0, 1, 3)


def _transformed_patches(values: Tensor, axis: int) -> Tensor:
    """B' d along one axis, for each run of four, two apart. B's last column and A's last row have the other sign."""
    first, second, third, fourth = values.unfold(axis, 4, 2).unbind(-1)
    result = values.new_empty(4, *first.shape)
    torch.sub(first, third, out=result[0])
    torch.add(second, third, out=result[1])
    torch.sub(third, second, out=result[2])
    torch.sub(fourth, second, out=result[3])
    return result


def _transformed_tiles(values: Tensor, axis: int) -> Tensor:
    """A y along one axis, for each run of two."""
    first, second = values.unfold(axis, 2, 2).unbind(-1)
    result = values.new_empty(4, *first.shape)
    result[0], result[3] = first, second
    torch.add(first, second, out=result[1])
    torch.sub(first, second, out=result[2])
    return result


def _transformed_weights(values: Tensor, axis: int) -> Tensor:
    """G' r along one axis of four."""
    first, second, third, fourth = values.unbind(axis)
    both = (second + third) / 2
    return torch.stack((first + both, (second - third) / 2, both + fourth), axis)
