"""Five pictures of an adapted backbone and the frozen one: features, attention, regions, matches, neighbours.

Shapes: B images · H heads · R regions · D width · N = h·w patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.views import Views
from src.backbones.backbone import Backbone
from src.backbones.features import Features
from src.core.keyed_random import KeyedRandom
from src.explanation.before_after import SIDE, Pixels, before_after, map_colours
from src.explanation.drawing import boxes, fitted, heat, joined, sheet
from src.explanation.matching import SHOWN, blank, match_lines, overlapping_views, similar_patches
from src.explanation.palette import MARKS
from src.pretraining.regions import AttentionAware, RegionalAttention, region_means

ACROSS = 3  # heads in a row (our choice)
REGIONS = 3  # regions with a picture of their cross-view attention (our choice)
GREY = 200  # beyond the image's edge
QUERIES, NEIGHBOURS = 3, 4  # query patches of the first image, and neighbours per query (our choice)


class Explanation(NamedTuple):
    """One picture with its alternative text."""

    name: str  # name of the file, without suffix
    title: str
    spoken: str
    picture: Image.Image


class Explainer:
    """Draw features of an adapted backbone next to those of the frozen one.

    Args:
        backbone: With an adapter installed.
        context: The teacher's regional cross-attention; None takes the identity, as at the start of training, which the
            text states.
    """

    def __init__(self, backbone: Backbone, context: RegionalAttention | None = None) -> None:
        self.backbone = backbone
        self.context = context

    @torch.no_grad()
    def explain(self, images: Sequence[Pixels]) -> Iterator[Explanation]:
        """The pictures of each image, then one of neighbours over all images.

        Args:
            images: RGB `[H, W, 3]` of any size.
        """
        shown = [fitted(image, self.backbone.patch_size, SIDE) for image in images]
        after = [self._features(image) for image in shown]
        with self.backbone.adapters_off():
            before = [self._features(image) for image in shown]
        colours = map_colours(*([as_map(features) for features in each] for each in (before, after)))
        for number, image in enumerate(shown):
            old, new = before[number], after[number]
            yield _coloured(number, before_after(image, colours[number]))
            yield self._attended(number, image, old, new)
            yield self._regional(number, image)
            yield self._matched(number, image)
        yield self._neighbours(shown, before, after)

    def _features(self, image: Pixels) -> Features:
        device = self.backbone.mean.device
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        features = self.backbone(batch.to(device), attention=True)
        cls, extra, patches = (tokens.float().cpu() for tokens in features[:3])
        assert features.attention is not None
        return Features(cls, extra, patches, features.attention.float().cpu(), features.grid)

    def _attended(self, number: int, image: Pixels, old: Features, new: Features) -> Explanation:
        assert old.attention is not None and new.attention is not None
        rows = []
        for first in range(0, self.backbone.heads, ACROSS):
            for when, attention in (("before", old.attention), ("after", new.attention)):
                maps = attention[0].unflatten(-1, old.grid)[first : first + ACROSS]  # [up to ACROSS, h, w]
                rows.append([(f"head {first + 1 + n} {when}", heat(image, values)) for n, values in enumerate(maps)])
        return Explanation(
            f"attention-{number + 1}",
            f"Attention of each head, image {number + 1}",
            f"Attention of the class token in the last block, {self.backbone.heads} heads, before and after "
            "adaptation; bright: attended.",
            sheet(rows),
        )

    def _regional(self, number: int, image: Pixels) -> Explanation:
        views = overlapping_views(image, self.backbone.patch_size)
        seen, asked = (self._features(pixels) for pixels in pixels_of(views))
        assert seen.attention is not None
        key = torch.tensor([number])
        regions = AttentionAware()(seen.attention[None], seen.grid, KeyedRandom(0, torch.zeros_like(key), key))[
            0, 0
        ]  # [R, N]
        context = self.context or identity(self.backbone.width)
        device = next(context.parameters()).device
        weights = context.weights(region_means(seen.patches[0], regions).to(device), asked.patches[0].to(device)).cpu()
        first, second = pixels_of(views)
        row = [("sampled regions", boxes(first, corners(regions, seen.grid), self.backbone.patch_size))]
        for index, values in enumerate(weights[:REGIONS]):
            box = corners(regions[index : index + 1], seen.grid)[0]
            own = Image.fromarray(first).crop(pixel_box(box, self.backbone.patch_size))
            found = heat(second, values.unflatten(0, asked.grid))
            found.paste(framed(own, index), (0, 0))
            row.append((f"region {index + 1} in the other view", found))
        whose = "the teacher's cross-attention" if self.context else "untrained cross-attention (the run has none)"
        return Explanation(
            f"regions-{number + 1}",
            f"Sampled regions and their cross-attention, image {number + 1}",
            f"{len(regions)} regions sampled by attention in one view, and where {whose} finds the first {REGIONS} in "
            "the other, mirrored view; bright: attended.",
            sheet([row]),
        )

    def _matched(self, number: int, image: Pixels) -> Explanation:
        views = overlapping_views(image, self.backbone.patch_size)
        first, second = pixels_of(views)
        rows, shares = [], []
        for when in ("before", "after"):
            if when == "after":
                pair = [self._features(pixels) for pixels in (first, second)]
            else:
                with self.backbone.adapters_off():
                    pair = [self._features(pixels) for pixels in (first, second)]
            lines, share = match_lines(views, pair[0].patches[0], pair[1].patches[0], pair[0].grid)
            shares.append(f"{100 * share:.0f} % {when}")
            rows.append([(f"{when}: {100 * share:.0f} % of patches matched correctly", joined(first, second, lines))])
        return Explanation(
            f"matches-{number + 1}",
            f"Matched patches, image {number + 1}",
            f"Lines from {SHOWN} patches of one view to the most similar patches of the other, mirrored view; blue "
            f"where they show the same ground, red where not. Of all patches that both views show, {', '.join(shares)} "
            "find their ground to within a patch and a half.",
            sheet(rows),
        )

    def _neighbours(self, images: list[Pixels], before: list[Features], after: list[Features]) -> Explanation:
        attention = after[0].attention
        assert attention is not None
        queries = distinct_peaks(attention[0].mean(0).unflatten(-1, after[0].grid), QUERIES)
        rows = []
        for index, query in enumerate(queries):
            for when, features in (("before", before), ("after", after)):
                row = [(f"patch {index + 1}, {when}", self._around(images[0], query, index))]
                for image, place, similarity in similar_patches(features, query, NEIGHBOURS):
                    row.append((f"cosine {similarity:.2f}", self._around(images[image], place, index)))
                rows.append(row)
        return Explanation(
            "neighbours",
            "Nearest neighbours of chosen patches",
            f"{len(queries)} patches of the first image and the {NEIGHBOURS} patches of all images whose features are "
            "most similar, before and after adaptation; each framed within its surroundings.",
            sheet(rows),
        )

    def _around(self, image: Pixels, place: tuple[int, int], colour: int) -> Image.Image:
        """A framed patch with four patches around it on each side."""
        patch, reach = self.backbone.patch_size, 4
        margin = reach * patch
        padded = Image.fromarray(np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=GREY))
        top, left = (index * patch for index in place)
        result = padded.crop((left, top, left + 2 * margin + patch, top + 2 * margin + patch))
        own = result.crop((margin, margin, margin + patch, margin + patch))
        result.paste(framed(own, colour), (margin, margin))
        return result


def _coloured(number: int, picture: Image.Image) -> Explanation:
    return Explanation(
        f"features-{number + 1}",
        f"Features before and after, image {number + 1}",
        "Patch features as colours, before and after adaptation; equal colours mean equal features in both.",
        picture,
    )


def as_map(features: Features) -> Tensor:
    """Patch features of one image as a map `[D, h, w]`."""
    return features.patches[0].T.unflatten(1, features.grid)


def pixels_of(views: Views) -> tuple[Pixels, Pixels]:
    """The two views of an image, RGB `[S, S, 3]` each."""
    first, second = views.images[:, 0].permute(0, 2, 3, 1).numpy()
    return first, second


def corners(regions: Tensor, grid: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Top, left, bottom, right of the rectangles that masks `[R, N]` cover, the last two exclusive."""
    found = []
    for mask in regions.unflatten(-1, grid):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        found.append((int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1))
    return found


def pixel_box(box: tuple[int, int, int, int], patch: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels of a box (top, left, bottom, right) in patches."""
    top, left, bottom, right = box
    return left * patch, top * patch, right * patch, bottom * patch


def framed(picture: Image.Image, colour: int) -> Image.Image:
    """Add a coloured frame to a picture."""
    result = Image.new("RGB", (picture.width, picture.height), MARKS[colour % len(MARKS)])
    result.paste(picture.crop((2, 2, picture.width - 2, picture.height - 2)), (2, 2))
    return result


def distinct_peaks(values: Tensor, count: int, apart: int = 4) -> list[tuple[int, int]]:
    """Row and column of the largest values `[h, w]`, each at least `apart` patches from the earlier ones."""
    left = values.clone()
    found: list[tuple[int, int]] = []
    while len(found) < count and left.max() > -torch.inf:
        found.append(divmod(int(left.argmax()), left.shape[1]))
        blank(left, found[-1], apart)
    return found


def identity(width: int) -> RegionalAttention:
    """Regional attention at initialisation, without noise."""
    return RegionalAttention(width, noise=0.0)
