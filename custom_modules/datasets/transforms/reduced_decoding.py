"""Decodes JPEGs no larger than a pipeline needs, where it loads images and then crops or resizes them."""

from collections.abc import Iterable
from copy import deepcopy

from mmengine.dataset import Compose
from mmpretrain.datasets import LoadImageFromFile, RandomResizedCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS

from custom_modules.datasets.transforms.load_photo import LoadPhoto
from custom_modules.datasets.transforms.load_random_resized_crop import LoadRandomResizedCrop


def build_pipeline(steps: Iterable[dict]) -> Compose:
    """The transforms of a config's pipeline, with :func:`decode_reduced` applied."""
    pipeline = Compose([TRANSFORMS.build(deepcopy(step)) for step in steps])
    decode_reduced(pipeline)
    return pipeline


def decode_reduced(pipeline: Compose) -> None:
    """Replaces ``LoadImageFromFile`` at the beginning of a built pipeline.

    With its default settings it becomes :class:`LoadPhoto`, which reads the same formats everywhere. Where the next
    transform interpolates bilinearly or bicubically with OpenCV, JPEGs are decoded no larger than needed:
    ``RandomResizedCrop`` becomes a part of :class:`LoadRandomResizedCrop`, ``ResizeEdge`` gives the short edge.

    Images that are not shrunk to half or less keep their pixels, and all draw the same random numbers.
    """
    load, step = (*pipeline.transforms, None, None)[:2]
    if type(load) is not LoadImageFromFile or vars(load) != vars(LoadImageFromFile()):
        return
    smooth = getattr(step, 'backend', '') == 'cv2' and step.interpolation in ('bilinear', 'bicubic')
    if smooth and type(step) is RandomResizedCrop:
        pipeline.transforms[:2] = [LoadRandomResizedCrop(**vars(step))]
    else:
        short = smooth and type(step) is ResizeEdge and step.edge == 'short'
        pipeline.transforms[0] = LoadPhoto(step.scale if short else None)
