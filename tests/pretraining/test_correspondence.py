"""Geometry between views: matched patches see the same ground."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from src.pretraining.correspondence import locate, patch_centres, sample_bilinear

edges = st.floats(0.0, 0.6)
sizes = st.floats(0.2, 0.4)


def painted_view(box: torch.Tensor, flip: bool, side: int = 96) -> torch.Tensor:
    """A crop, resized and mirrored, of an image whose pixels hold their own coordinates: [2, S, S]."""
    resolution = 512
    place = (torch.arange(resolution) + 0.5) / resolution
    image = torch.stack(torch.meshgrid(place, place, indexing="ij"))
    y0, x0, y1, x1 = (round(float(edge) * resolution) for edge in box)
    crop = F.interpolate(image[None, :, y0:y1, x0:x1], size=(side, side), mode="bilinear", antialias=True)[0]
    return crop.flip(-1) if flip else crop


@settings(max_examples=30, deadline=None)
@given(y=edges, x=edges, height=sizes, width=sizes, flip=st.booleans())
def test_patch_centres_are_where_the_painted_coordinates_say(y, x, height, width, flip):
    grid = (6, 6)
    box = torch.tensor([y, x, y + height, x + width])
    seen = painted_view(box, flip).unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2))  # mean coordinate per patch
    centres = patch_centres(box, torch.tensor(flip), grid)
    half_patch = torch.tensor([height, width]) / 6 / 2
    assert ((seen.flatten(1).T - centres).abs() < half_patch).all()


@settings(max_examples=30, deadline=None)
@given(ya=edges, xa=edges, yb=edges, xb=edges, size=sizes, flip_a=st.booleans(), flip_b=st.booleans())
def test_matched_patches_see_the_same_coordinates(ya, xa, yb, xb, size, flip_a, flip_b):
    grid = (6, 6)
    box_a = torch.tensor([ya, xa, ya + size, xa + size])
    box_b = torch.tensor([yb, xb, yb + 1.3 * size, xb + 0.8 * size]).clamp(max=1)
    coordinates = painted_view(box_a, flip_a).unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2)).flatten(1).T
    ground = patch_centres(box_b, torch.tensor(flip_b), grid)
    positions, inside = locate(ground, box_a, torch.tensor(flip_a), grid)
    found = sample_bilinear(coordinates, positions, grid)
    assert ((found - ground).abs()[inside] <= size / 6 / 2 + 2e-3).all()


def test_points_outside_the_view_are_not_inside():
    _, inside = locate(
        torch.tensor([[0.1, 0.5], [0.5, 0.5]]), torch.tensor([0.4, 0.4, 0.6, 0.6]), torch.tensor(False), (4, 4)
    )
    assert inside.tolist() == [False, True]


def test_bilinear_sampling_at_patch_centres_gives_the_patches_and_halfway_their_mean():
    values = torch.arange(12.0).view(12, 1)
    at = torch.tensor([[0.0, 0.0], [2.0, 3.0], [0.0, 0.5], [0.5, 0.0], [-1.0, 9.0]])
    assert sample_bilinear(values, at, (3, 4)).flatten().tolist() == [0.0, 11.0, 0.5, 2.0, 3.0]
