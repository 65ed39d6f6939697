"""Images as text that HTML holds: planes in grey, and pictures of matplotlib."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xoctnorm.plot.reads import Image, shrunk

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

_QUALITIES = (70, 50)
_SMALLEST = 64
_DPI = 240


def grey_images(
    stages: Mapping[str, tuple[Mapping[int, Image], tuple[float, float]]], budget: int
) -> dict[str, list[str]]:
    """Planes of every stage as WebP in base64, all of one size: the best that the budget, in bytes, has room for.

    Each stage has its images and the values that become black and white.
    """
    side = max(max(image.shape) for images, _ in stages.values() for image in images.values())
    while True:
        for quality in _QUALITIES:
            coded = {stage: [_grey(image, side, limits, quality) for image in images.values()]
                     for stage, (images, limits) in stages.items()}  # fmt: skip
            if sum(len(one) for images in coded.values() for one in images) <= budget or side <= _SMALLEST:
                return coded
        side = int(side * 0.75)


def black_and_white(images: Mapping[int, Image]) -> tuple[float, float]:
    """What becomes black and white in all images: percentiles 1 and 99.7 of what they show and is not 0."""
    values = np.concatenate([image[::2, ::2].ravel() for image in images.values()])
    values = values[np.isfinite(values) & (values != 0)]
    low, high = np.percentile(values, [1, 99.7]) if values.size else (0, 1)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _grey(image: Image, side: int, limits: tuple[float, float], quality: int) -> str:
    from PIL import Image as Pillow

    low, high = limits
    levels = (np.clip(np.nan_to_num(shrunk(image, side), nan=low), low, high) - low) / (high - low)
    return _webp(Pillow.fromarray(np.rint(255 * levels).astype(np.uint8)), quality=quality)


def coded_figure(figure: Figure, *, speckled: bool) -> tuple[str, int, int]:
    """A figure as WebP in base64, with its width and height in pixels; without loss unless it is full of speckle."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image as Pillow

    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    text = _webp(picture, quality=75) if speckled else _webp(picture, lossless=True)
    return text, *picture.size


def _webp(picture: Picture, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "webp", method=4, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
