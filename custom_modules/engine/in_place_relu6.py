"""ReLU6 in place, without the copy that torch makes of its input. The same numbers to the bit."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def to_in_place_relu6(model: nn.Module) -> nn.Module:
    """Makes an :class:`InPlaceReLU6` of each ``nn.ReLU6`` that is to work in place, in place."""
    for module in model.modules():
        if type(module) is nn.ReLU6 and module.inplace:
            module.__class__ = InPlaceReLU6
    return model


class InPlaceReLU6(nn.ReLU6):
    """ReLU6 in place that remembers its output, for the gradient passes where that lies between 0 and 6.

    torch's remembers its input, and so has to copy it first (``derivatives.yaml``, ``hardtanh``). The output is what
    the next layer remembers anyway. So, as after ``nn.ReLU`` in place, that layer must not change it in place. It can
    be differentiated once, and neither scripted nor traced while gradients are on.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The input, changed."""
        if self.inplace and torch.is_grad_enabled() and input.requires_grad:
            return _ReLU6.apply(input)
        return super().forward(input)


class _ReLU6(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        ctx.mark_dirty(input)
        ctx.save_for_backward(input.clamp_(0, 6))
        return input

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0, 6)
