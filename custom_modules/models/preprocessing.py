"""From a photo's file to the pixels that an exported model takes, with Pillow and NumPy alone: the test pipeline's.

The resize is OpenCV's ``INTER_LINEAR`` for 8 bits, whose fixed-point arithmetic (``modules/imgproc/src/resize.cpp``,
``VResizeLinear``) is repeated here, rounding included: no antialiasing, unlike Pillow's own ``BILINEAR``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from custom_modules.errors import InputError
from custom_modules.photos.opening import eight_bits, open_photo, orientation, upright

Pixels = NDArray[np.uint8]

REDUCTIONS = 8, 4, 2  # divisors of height and width at which a JPEG can be decoded
_WEIGHT_BITS = 11  # OpenCV's INTER_RESIZE_COEF_BITS
_DEFAULTS = {  # settings of upstream's transforms that change nothing where they have these values
    'edge': 'short',
    'backend': 'cv2',
    'interpolation': 'bilinear',
    'keep_ratio': False,
    'to_float32': False,
    'color_type': 'color',
    'imdecode_backend': 'cv2',
    'ignore_empty': False,
    'auto_pad': False,
    'clip_object_border': True,
}


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a photo, turned upright, before the model: a resize and a crop of the centre.

    Args:
        crop: Height and width of what the model takes, in pixels.
        short_edge: What the short edge is resized to, the aspect kept; None to resize to ``crop`` whatever it is.
        min_short_edge: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its short edge stays this long; None
            to decode in full.
        interpolation: OpenCV's ``'bilinear'``, which alone is known here.

    Raises:
        ValueError: No such preprocessing is possible.
    """

    crop: tuple[int, int]
    short_edge: int | None = None
    min_short_edge: int | None = None
    interpolation: str = 'bilinear'

    def __post_init__(self) -> None:
        sizes = [*self.crop, *(size for size in (self.short_edge, self.min_short_edge) if size is not None)]
        if len(self.crop) != 2 or not all(type(size) is int and 1 <= size < 1 << 14 for size in sizes):
            raise ValueError(f'sizes {sizes} are not all whole numbers of pixels')
        if self.short_edge is not None and self.short_edge < max(self.crop):
            raise ValueError(f'a short edge of {self.short_edge} pixels is shorter than the crop, {self.crop}')
        if self.interpolation != 'bilinear':
            raise ValueError(f'interpolation {self.interpolation!r} is not known')

    @classmethod
    def of_pipeline(cls, pipeline: Sequence[Mapping[str, Any]], name: str) -> Self:
        """What a test pipeline of a config does.

        Raises:
            InputError: It does something else than loading, a bilinear resize and a crop of the centre.
        """
        short_edge = min_short_edge = resized = crop = None
        for step in pipeline:
            kind = str(step.get('type')).removeprefix('mmpretrain.').removeprefix('mmcv.')
            rest = {k: v for k, v in step.items() if k not in ('type', '_scope_') and _DEFAULTS.get(k, ...) != v}
            if kind in ('PackInputs', 'PackPhoto') or (kind == 'LoadImageFromFile' and not rest):
                continue
            if kind == 'LoadPhoto' and set(rest) == {'min_short_edge'}:
                min_short_edge = rest['min_short_edge']
            elif kind == 'ResizeEdge' and set(rest) == {'scale'} and not (short_edge or resized or crop):
                short_edge = rest['scale']
            elif kind == 'Resize' and set(rest) == {'scale'} and not (short_edge or resized or crop):
                resized = _height_and_width(rest['scale'])
            elif kind == 'CenterCrop' and set(rest) == {'crop_size'} and short_edge and not crop:
                crop = _height_and_width(rest['crop_size'])
            else:
                settings = ', '.join(f'{key}={value!r}' for key, value in rest.items())
                raise InputError(
                    f'{name}: its test pipeline has {kind}({settings}) there, which cannot be exported; '
                    'known are LoadImageFromFile or LoadPhoto, bilinear ResizeEdge (short) and CenterCrop, or Resize'
                )
        size = crop or resized
        if not size:
            raise InputError(f'{name}: its test pipeline gives pictures of any size; it lacks CenterCrop or Resize')
        try:
            return cls(size, short_edge, min_short_edge)
        except (TypeError, ValueError) as error:
            raise InputError(f'{name}: its test pipeline cannot be exported: {error}') from error

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` gave.

        Raises:
            ValueError: Something else; TypeError: too.
        """
        return cls(**{**settings, 'crop': tuple(settings.get('crop', ()))})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def load(self, path: str | Path) -> Pixels:
        """The pixels of a photo, (3, H, W) uint8, RGB.

        Raises:
            Exception: Of any kind, for a file that is no photo or a broken one.
        """
        with open(path, 'rb') as file:
            return self.apply(self._decode(file))

    def _decode(self, file: Any) -> Pixels:
        with open_photo(file) as image:
            if self.min_short_edge and image.format in ('JPEG', 'MPO'):
                shrinking = min(image.size) / self.min_short_edge
                divisor = next((divisor for divisor in REDUCTIONS if divisor <= shrinking), 1)
                image.draft('RGB', (image.width // divisor, image.height // divisor))
            image.load()
            turn = orientation(image)  # not before, for Pillow turns a TIFF itself when it loads it
            return np.asarray(upright(eight_bits(image).convert('RGB'), turn))

    def apply(self, picture: Pixels) -> Pixels:
        """(3, H, W) of an upright (h, w, 3) picture: resized, and its centre."""
        height, width = picture.shape[:2]
        rows, columns = self.crop
        if self.short_edge is not None:  # MMPretrain's ResizeEdge
            if width < height:
                height, width = int(self.short_edge * height / width), self.short_edge
            else:
                height, width = self.short_edge, int(self.short_edge * width / height)
        else:
            height, width = self.crop
        top, left = round((height - rows) / 2), round((width - columns) / 2)  # MMCV's CenterCrop
        resized = resize_bilinear(picture, (height, width), (slice(top, top + rows), slice(left, left + columns)))
        return np.ascontiguousarray(resized.transpose(2, 0, 1))


def _height_and_width(value: int | Sequence[int]) -> tuple[int, int]:
    """Of one number for both, or of width and height, as MMCV has them."""
    width, height = (value, value) if isinstance(value, int) else value
    return height, width


def resize_bilinear(
    picture: Pixels, size: tuple[int, int], part: tuple[slice, slice] = (slice(None), slice(None))
) -> Pixels:
    """Resizes as ``cv2.resize`` does with ``INTER_LINEAR``.

    Args:
        picture: (h, w, C) uint8.
        size: Height and width of the result.
        part: Rows and columns of the result that are wanted: no others are computed.
    """
    height, width = picture.shape[:2]
    above, below, upper, lower = (values[part[0]] for values in _neighbours(height, size[0], clip_weights=False))
    left, right, nearer, farther = (values[part[1]] for values in _neighbours(width, size[1], clip_weights=True))
    if (height, width) == size:
        return picture[part]

    used, places = np.unique(np.concatenate([above, below]), return_inverse=True)
    rows = picture[used].astype(np.int32)
    across = rows[:, left] * nearer[:, None] + rows[:, right] * farther[:, None] >> 4
    first, second = across[places[: len(above)]], across[places[len(above) :]]
    first *= upper[:, None, None]
    second *= lower[:, None, None]
    return ((first >> 16) + (second >> 16) + 2 >> 2).astype(np.uint8)


def _neighbours(old: int, new: int, clip_weights: bool) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The two old places, clipped to the picture, that each new one lies between, and their weights times 2048.

    Beyond the edge both places are the same; OpenCV moves the weight to one of them along a row, and leaves it along a
    column, which rounds otherwise.
    """
    places = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    before = np.floor(places).astype(np.int64)
    share = places - before.astype(np.float32)
    if clip_weights:
        share[(before < 0) | (before >= old - 1)] = 0
    one, other = (np.rint(weight * np.float32(1 << _WEIGHT_BITS)).astype(np.int32) for weight in (1 - share, share))
    return before.clip(0, old - 1), (before + 1).clip(0, old - 1), one, other
