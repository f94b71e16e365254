"""Averaging over flips and scales: an equivariant feature stays what it is, and each view is seen once."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.evaluation.test_time_averaging import SCALES, TestTimeAveraging


def patch_means(images: Tensor) -> Tensor:
    """Mean colour of each 4-px patch: the same ground gives the same feature, mirrored or not."""
    assert images.shape[-2] % 4 == 0 and images.shape[-1] % 4 == 0
    scale = 1 if images.is_floating_point() else 255
    return F.avg_pool2d(images.double() / scale, 4)


def ramp(height: int = 32, width: int = 48) -> Tensor:
    rows, columns = torch.linspace(0.2, 0.8, height)[:, None], torch.linspace(0.3, 0.7, width)
    return torch.stack((rows.expand(height, width), columns.expand(height, width), (rows + columns) / 2))[None]


def test_features_that_follow_the_ground_stay_as_they_are() -> None:
    averaged = TestTimeAveraging(patch_means, 4)(ramp())
    inside = (..., slice(1, -1), slice(1, -1))  # at the border, resampling repeats the last patch
    torch.testing.assert_close(averaged[inside], patch_means(ramp())[inside], rtol=0, atol=5e-3)


def test_it_is_the_mean_of_six_views_each_at_a_multiple_of_the_patch_size() -> None:
    sizes: list[tuple[int, int]] = []

    def numbered(images: Tensor) -> Tensor:
        sizes.append((images.shape[-2], images.shape[-1]))
        return torch.full((1, 1, images.shape[-2] // 4, images.shape[-1] // 4), float(len(sizes) ** 2))

    averaged = TestTimeAveraging(numbered, 4)(torch.zeros(1, 3, 20, 36))
    assert sizes == [(16, 28), (16, 28), (20, 36), (20, 36), (32, 56), (32, 56)]  # 20 · ¾ = 15, 36 · ¾ = 27, …
    torch.testing.assert_close(averaged, torch.full((1, 1, 5, 9), sum(i**2 for i in range(1, 7)) / 6))


def test_a_mirrored_view_is_mirrored_back() -> None:
    def columns(images: Tensor) -> Tensor:  # position, blind to the image: its mirror image cancels it
        return torch.arange(images.shape[-1] // 4, dtype=torch.float64).expand(1, 1, images.shape[-2] // 4, -1)

    averaged = TestTimeAveraging(columns, 4, scales=(1.0,))(torch.zeros(1, 3, 8, 20))
    torch.testing.assert_close(averaged, torch.full((1, 1, 2, 5), 2.0, dtype=torch.float64))
    plain = TestTimeAveraging(columns, 4, scales=(1.0,), flip=False)(torch.zeros(1, 3, 8, 20))
    assert plain[0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_half_precision_and_bytes_give_single_precision() -> None:
    averaged = TestTimeAveraging(lambda images: patch_means(images).half(), 4)((ramp() * 255).to(torch.uint8))
    assert averaged.dtype == torch.float32 and averaged.shape == (1, 3, 8, 12)
    assert SCALES == (0.75, 1.0, 1.5)


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="30×48 px; expected multiples of the patch size 4"):
        TestTimeAveraging(patch_means, 4)(ramp(30))
    for scales in ((), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="scales above 0"):
            TestTimeAveraging(patch_means, 4, scales)
