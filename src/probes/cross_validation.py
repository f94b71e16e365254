"""Cross-validated fair probes, for few labelled images.

Shapes: D width · h×w patches · C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from src.core.errors import UserError
from src.core.keyed_random import KeyedRandom
from src.evaluation.confusion import ImageConfusions
from src.evaluation.probe_scores import ProbeScores
from src.probes.fair_comparison import FairProbes, LabelledImage, Maps, Row

LEAST = 3  # fewest images: with one scored, a probe still learns from two
MANY = 40  # images from which two folds suffice (our choice)


class CrossValidatedProbes:
    """`FairProbes` over folds of the images, so that each image is scored once, by probes that were not fitted to it.

    Five folds (or leave-one-out for fewer than five images), two from `MANY` images on. Intervals over the scored
    images do not account for training images shared between folds.

    Args:
        images: Labelled images.
        num_classes: C.
        ignore_index: Ignore index of the masks.
        seed: Random seed of the folds and probes.

    Raises:
        UserError: If there are fewer than `LEAST` images.
    """

    def __init__(
        self, images: Sequence[LabelledImage], num_classes: int, ignore_index: int = 255, seed: int = 0
    ) -> None:
        if len(images) < LEAST:
            raise UserError(
                f"a comparison with frozen features needs at least {LEAST} labelled images, found {len(images)}; "
                "label more, or leave the masks out"
            )
        self.images = list(images)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.seed = seed
        self.folds = folds(len(images), 2 if len(images) >= MANY else min(5, len(images)), seed)

    @torch.no_grad()
    def measure(self, maps: Maps, device: torch.device | str = "cpu") -> Row:
        """Fit and score the probes of every fold on one kind of features, which are computed once.

        Args:
            maps: Images `[1, 3, H, W]` on the device → features `[1, D, h, w]`.
            device: Where features and probes are computed.
        """
        with parametrize.cached():  # merged weights are computed once, not for every image
            known = [one._replace(image=maps(one.image[None].to(device))[0].float().cpu()) for one in self.images]
        rows = []
        for scored in self.folds:
            training = [known[place] for place in range(len(known)) if place not in scored]
            evaluation = [known[place] for place in scored]
            probes = FairProbes(training, evaluation, self.num_classes, self.ignore_index, seed=self.seed)
            rows.append(probes.measure(_as_they_are, device))
        return joined(rows)


def folds(images: int, count: int, seed: int) -> list[list[int]]:
    """Split the positions of images into `count` random parts whose sizes differ by one at most, each sorted."""
    random = KeyedRandom(seed, torch.zeros(images, dtype=torch.int64), torch.arange(images))
    order = random.uniform("folds", 1)[:, 0].argsort().tolist()
    return [sorted(order[start::count]) for start in range(count)]


def joined(rows: Sequence[Row]) -> Row:
    """Concatenate rows of disjoint images in order."""
    probes = [row.probe for row in rows]
    starts = [0]
    for probe in probes:
        starts.append(starts[-1] + len(probe.names))
    probe = ProbeScores(
        [name for one in probes for name in one.names],
        torch.cat([one.matrices for one in probes]),
        torch.cat([one.matched for one in probes]),
        torch.cat([one.logs for one in probes]),
        torch.cat([one.shares for one in probes]),
        torch.cat([one.owners + start for one, start in zip(probes, starts, strict=False)]),
    )
    plain, white = (
        ImageConfusions([name for one in some for name in one.names], torch.cat([one.matrices for one in some]))
        for some in ([row.neighbours for row in rows], [row.whitened_neighbours for row in rows])
    )
    return Row(probe, plain, white)


def _as_they_are(features: Tensor) -> Tensor:
    return features
