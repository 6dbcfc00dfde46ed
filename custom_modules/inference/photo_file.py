"""What is wrong with a photo's file before anything is decoded. No torch, no OpenCV."""

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from custom_modules.datasets.duplicates import MAX_PIXELS

BROKEN = 'broken picture, or none that can be read'  # what decoding alone finds
TOO_LARGE = f'too large, more than {MAX_PIXELS // 10**6} million pixels'


def file_problem(path: str) -> str | None:
    """What makes it useless or dangerous to decode a file: none there, empty, too many pixels; None for nothing."""
    if not os.path.isfile(path):  # a named pipe would block
        return 'no such file' if not os.path.lexists(path) else 'no file'
    try:
        if not Path(path).stat().st_size:
            return 'empty file'
        with Image.open(path) as image:
            width, height = image.size
    except UnidentifiedImageError:
        return None  # the decoder may know it
    except Image.DecompressionBombError:
        return TOO_LARGE
    except OSError as error:
        return f'cannot be read: {error.strerror}' if error.strerror else 'broken picture'
    except Exception:  # fed with garbage, decoders raise almost anything; decoding says whether it can be read
        return None
    if width * height > MAX_PIXELS:
        return TOO_LARGE
    return None
