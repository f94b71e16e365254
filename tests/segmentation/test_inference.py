"""Whole and windowed inference against loops that hold everything at full resolution."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from src.core.resizing import resize_images, resize_scores
from src.segmentation.inference import Inference, Network, SlidingWindow, Tile, Whole, padded

PATCH, CLASSES = 4, 5


def network(classes: int = CLASSES) -> Network:
    """Scores per patch that depend on the patch's place in what the network sees, as a ViT's do."""
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, 3, PATCH, PATCH, generator=draws)

    def scores(images: Tensor) -> Tensor:
        images = images if images.is_floating_point() else images.float() / 255
        maps = F.conv2d(images, weight, stride=PATCH)
        return maps + torch.linspace(0, 2, maps.shape[-1]) + torch.linspace(0, 1, maps.shape[-2])[:, None]

    return Network(scores, lambda scores: scores.softmax(dim=1), PATCH)


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=draws) for size in sizes]


def assembled(inference: Inference, images: Tensor | list[Tensor], sizes: Sequence[tuple[int, int]], **options: bool):
    """Full score maps; every pixel must be given exactly once."""
    results = []
    for (height, width), tiles in zip(sizes, inference.tiles(network(), images, sizes, **options), strict=True):
        result, times = torch.full((CLASSES, height, width), torch.nan), torch.zeros(height, width)
        for top, left, scores in tiles:
            place = slice(top, top + scores.shape[1]), slice(left, left + scores.shape[2])
            result[:, *place], times[place] = scores, times[place] + 1
        assert (times == 1).all()
        results.append(result)
    return results


def window_scores(image: Tensor, scale: float, mirrored: bool) -> Tensor:
    """Scores of a window, at the window's own size."""
    height, width = image.shape[-2:]
    seen = resize_images(image[None], (round(height * scale), round(width * scale)))
    inner = seen.shape[-2:]
    seen = padded(seen, PATCH)
    scores = network().scores(seen.flip(-1)).flip(-1) if mirrored else network().scores(seen)
    cells = scores.shape[-2:]
    result = torch.empty(CLASSES, height, width)
    for y in range(height):
        for x in range(width):
            at = []
            for place, side, real, n, total in zip((y, x), (height, width), inner, cells, seen.shape[-2:], strict=True):
                cell = min(max((place + 0.5) / side * real / total * n - 0.5, 0), n - 1)
                low = min(int(cell), n - 2) if n > 1 else 0
                at.append((low, min(low + 1, n - 1), cell - low))
            (y0, y1, v), (x0, x1, u) = at
            upper = (1 - u) * scores[0, :, y0, x0] + u * scores[0, :, y0, x1]
            lower = (1 - u) * scores[0, :, y1, x0] + u * scores[0, :, y1, x1]
            result[:, y, x] = (1 - v) * upper + v * lower
    return result


def slid(image: Tensor, crop: int, stride: int, scale: float, mirrored: bool) -> Tensor:
    """Sum of weighted full-size window scores over the sum of weights."""
    height, width = image.shape[-2:]
    high, wide = min(height, round(crop / scale)), min(width, round(crop / scale))
    total, weights = torch.zeros(CLASSES, height, width), torch.zeros(height, width)
    step = round(stride / scale)
    tops = sorted({min(top, height - high) for top in range(0, height, step)})
    lefts = sorted({min(left, width - wide) for left in range(0, width, step)})
    for top in tops:
        for left in lefts:
            down, across = torch.arange(high) + 0.5, torch.arange(wide) + 0.5
            weight = torch.minimum(down, high - down)[:, None] * torch.minimum(across, wide - across)
            place = slice(top, top + high), slice(left, left + wide)
            total[:, *place] += weight * window_scores(image[:, *place], scale, mirrored)
            weights[place] += weight
    return total / weights


@pytest.mark.parametrize(("scale", "mirrored"), [(1.0, False), (1.0, True), (2.0, False), (0.5, True)])
def test_blended_windows_equal_the_naive_loop(scale: float, mirrored: bool) -> None:
    (image,) = pictures((25, 38))
    expected = slid(image, 16, 10, scale, mirrored)
    inference = SlidingWindow(16, 10, [scale], batch=2)
    inference.passes = [(scale, mirrored)]
    torch.testing.assert_close(assembled(inference, [image], [(25, 38)])[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(16, 24), (13, 22), (1, 1)])
def test_scales_and_mirror_images_average_probabilities(size: tuple[int, int]) -> None:
    (image,) = pictures(size)
    passes = [window_scores(image, scale, mirrored).softmax(0) for scale in (1.0, 2.0) for mirrored in (False, True)]
    (result,) = assembled(Whole((1.0, 2.0), flip=True), [image], [size])
    torch.testing.assert_close(result, torch.stack(passes).mean(0), atol=1e-5, rtol=1e-5)


def test_one_window_is_the_whole_image() -> None:
    images = pictures((16, 20), (13, 19))
    for options in ({}, {"scales": (1.0, 1.5), "flip": True}):
        whole = assembled(Whole(**options), images, [(16, 20), (26, 38)])
        slid = assembled(SlidingWindow(64, 32, **options), images, [(16, 20), (26, 38)])
        torch.testing.assert_close(whole, slid, atol=1e-5, rtol=1e-5)


def test_a_batch_that_needs_no_padding_is_upsampled_as_ever() -> None:
    images = torch.stack(pictures((16, 20), (16, 20)))
    sizes = [(31, 17), (8, 40)]
    scores = network().scores(images)
    expected = [resize_scores(scores[i : i + 1], size)[0] for i, size in enumerate(sizes)]
    assert all(torch.equal(*pair) for pair in zip(assembled(Whole(), images, sizes), expected, strict=True))
    shares = assembled(Whole(), images, sizes, probabilities=True)
    assert all(torch.equal(one, other.softmax(0)) for one, other in zip(shares, expected, strict=True))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations have made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                size = storage.nbytes()
                self.known[storage] = True
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, size)
        return result

    def _gone(self, size: int) -> None:
        self.live -= size


def peak(inference: Inference, height: int, width: int, classes: int = 60) -> int:
    (image,) = pictures((height, width))
    model = network(classes)
    with LiveBytes() as memory:
        memory.known[image.untyped_storage()] = True  # the image is there already
        images: Iterator[Iterator[Tile]] = inference.tiles(model, [image], [(height, width)])
        for tiles in images:
            for tile in tiles:
                tile.scores.argmax(dim=0)
    return memory.peak


def test_memory_is_bounded_by_the_window_and_not_by_the_image() -> None:
    sliding = SlidingWindow(32, 20, batch=4)
    window = peak(sliding, 256, 64)
    assert peak(sliding, 1056, 64) == window  # 800 rows more; windows and tiles meet as before every 160
    grids = 4 * 4 * 60 * (32 // PATCH) ** 2 * 640 // 20  # four rows of windows, float32 scores on the head's own grid
    assert peak(sliding, 64, 640) <= window + 2 * grids
    assert peak(Whole(), 640, 64) >= 4 * 60 * 640 * 64 > 3 * window  # what it would be otherwise


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SlidingWindow(8, 9), "stride ≤ crop"),
        (lambda: SlidingWindow((8, 16), (8, 0)), "1 ≤ stride"),
        (lambda: SlidingWindow(8, 8, batch=0), "batch ≥ 1"),
        (lambda: Whole(()), "at least one"),
        (lambda: Whole((1.0, -1.0)), "above 0"),
        (lambda: Whole((1.0, math.nan)), "above 0"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
