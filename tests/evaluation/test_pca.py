"""PCA colours: one basis for all sets, a fixed sign, a robust range."""

import pytest
import torch

from src.evaluation.pca import pca_colours


def structured(scale: float = 1.0) -> torch.Tensor:
    """Maps `[1, 5, 20, 20]` whose first three components are known: width 0, 1, 2 with falling variance."""
    torch.manual_seed(0)
    maps = torch.zeros(1, 5, 20, 20)
    for channel, spread in enumerate((9.0, 4.0, 1.0)):
        maps[0, channel] = spread * scale * torch.rand(20, 20)
    return maps


def test_components_are_the_directions_of_most_variance_in_order() -> None:
    maps = structured()
    (colours,) = pca_colours([maps], quantile=0.0)
    for channel in range(3):
        plane = maps[0, channel]
        expected = (plane - plane.min()) / (plane.max() - plane.min())
        assert torch.corrcoef(torch.stack((colours[0, channel].flatten(), expected.flatten())))[0, 1] > 0.99
    assert colours.min() == 0 and colours.max() == 1


def test_equal_features_have_equal_colours_in_both_sets() -> None:
    before = structured()
    after = structured(2.0)
    after[0, :, 3, 4] = before[0, :, 7, 8]
    first, second = pca_colours([before, after])
    torch.testing.assert_close(second[0, :, 3, 4], first[0, :, 7, 8])


def test_the_sign_does_not_depend_on_the_order_of_the_patches() -> None:
    maps = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(3))
    (colours,), (flipped,) = pca_colours([maps]), pca_colours([maps.flip(0, 2, 3)])
    torch.testing.assert_close(flipped.flip(0, 2, 3), colours, atol=1e-5, rtol=0)


def test_an_outlier_does_not_take_the_range() -> None:
    maps = structured()
    maps[0, 0, 0, 0] = 1e3
    (colours,) = pca_colours([maps], quantile=0.02)
    assert colours[0, 0].std() > 0.2 and colours[0, 0, 0, 0] == 1


def test_sets_of_several_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="one D"):
        pca_colours([torch.zeros(1, 4, 2, 2), torch.zeros(1, 5, 2, 2)])
