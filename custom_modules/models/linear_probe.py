"""A linear probe: the head is fitted by logistic regression on the backbone's features."""

import copy
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.dist import broadcast, collect_results, is_main_process
from mmengine.model import is_model_wrapper
from mmpretrain.models import ClsHead
from torch import Tensor, nn
from torch.nn import functional

from custom_modules.errors import InputError


def fit_head(model: nn.Module, loader: Any, l2: float) -> tuple[Tensor, dict[str, Any]]:
    """Fits the last layer of the head of ``model`` to the loader's images; everything else stays as it is.

    Args:
        model: An ``ImageClassifier``, wrapped for several processes or not.
        loader: The images, in order; each process has its share, as of DefaultSampler.
        l2: Weight of the penalty, see :func:`logistic_regression`.

    Returns:
        The features, (N, D) float32, on other ranks than the first only that rank's share; and ``loss``, the mean
        cross-entropy, and ``accuracy_top-1``, percent, of the fitted head.
    """
    if not l2 >= 0:
        raise InputError(f'linear probe: l2 is {l2}. Give 0 or more.')
    inner: Any = model.module if is_model_wrapper(model) else model
    layer = logits_layer(inner.head)
    features, labels = (found.to(layer.weight.device) for found in _features(inner, loader))
    if is_main_process():
        weight, bias = logistic_regression(features, labels, layer.out_features, l2)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    broadcast(layer.weight.data)
    broadcast(layer.bias.data)
    logits = layer(features)
    accuracy = (logits.argmax(1) == labels).float().mean() * 100
    outputs = {'loss': functional.cross_entropy(logits, labels), 'accuracy_top-1': accuracy}
    return features, {key: value.detach() for key, value in outputs.items()}


def logits_layer(head: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits of what a head's ``pre_logits`` gives."""
    layers = [module for module in head.modules() if type(module) is nn.Linear] if isinstance(head, ClsHead) else []
    layers = [layer for layer in layers if layer.out_features == head.num_classes]
    if len(layers) != 1:  # such as DeiT's two, or ArcFace's normalized one
        kind = type(head).__name__
        raise InputError(f'linear probe: model.head is a {kind}, not one last linear layer. Use a LinearClsHead.')
    return layers[0]


def logistic_regression(features: Tensor, labels: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression by L-BFGS.

    Minimises the mean cross-entropy + ``l2`` / 2 · the sum of the squared weights; the bias is not penalised. Without
    a penalty, separable classes have no solution.

    Args:
        features: (N, D) float32.
        labels: (N,) int64.
        classes: K.
        l2: Weight of the penalty.

    Returns:
        Weights (K, D) and bias (K,), float32.
    """
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        solver.zero_grad()
        loss = functional.cross_entropy(features @ weight.T + bias, labels) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    return weight.detach(), bias.detach()


@torch.no_grad()
def _features(model: Any, loader: Any) -> tuple[Tensor, Tensor]:
    """The features (N, D) and labels (N,) of the loader's images, in order."""
    # Batch norm folded into the convolutions: on a CPU a third more images per second.
    backbone, head = copy.deepcopy(model.backbone), copy.deepcopy(model.head)
    for part in (backbone, head):
        part.eval()  # gives no backbone back: MMPretrain's train() returns nothing
    backbone = fuse_conv_bn(backbone)
    rows: list[tuple[Tensor, int]] = []
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        maps = backbone(data['inputs'])
        features = head.pre_logits(model.neck(maps) if model.with_neck else maps)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        # Clones: to another process, a view would bring the whole batch along.
        rows += zip((row.clone() for row in features.cpu()), labels.tolist(), strict=True)
    rows = collect_results(rows, len(loader.dataset), device='cpu') or rows
    return torch.stack([row for row, _ in rows]), torch.tensor([label for _, label in rows])
