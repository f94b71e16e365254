"""The picture by value: every colour where it should be."""

from __future__ import annotations

import numpy as np

from src.core.colours import distinct_colours
from src.explanation.palette import IGNORED, OPACITY, RIGHT, WRONG
from src.explanation.picture_grid import COLUMNS, GAP, LINE, MARGIN, TILE, Segmented, legend, picture_grid, tiles

PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
NAMES = ["road", "tree", "sky"]


def example(scale: int = 1) -> Segmented:
    grow = np.ones((scale, scale), dtype=np.int64)
    image = np.kron([[10, 20, 30, 40]], grow).astype(np.uint8)[..., None].repeat(3, axis=-1)
    truth, prediction = np.kron([[0, 0, 1, 255]], grow), np.kron([[0, 1, 1, 0]], grow)
    return Segmented("street.png", image, truth, prediction)


def over(colour: tuple[int, int, int], grey: int) -> list[int]:
    return [round(OPACITY * channel + (1 - OPACITY) * grey) for channel in colour]


def test_each_pixel_has_the_colour_of_its_class_and_each_error_is_marked() -> None:
    image, truth, prediction, error = tiles(example(), PALETTE, 255)
    assert image[0].tolist() == [[grey] * 3 for grey in (10, 20, 30, 40)]
    road, tree, _ = PALETTE
    greys = (10, 20, 30, 40)
    for tile, colours in (
        (truth, (road, road, tree, IGNORED)),
        (prediction, (road, tree, tree, road)),
        (error, (RIGHT, WRONG, RIGHT, IGNORED)),
    ):
        assert tile[0].tolist() == [over(colour, grey) for colour, grey in zip(colours, greys, strict=True)]


def test_the_legend_names_what_is_seen_and_nothing_else() -> None:
    entries = [("road", PALETTE[0]), ("tree", PALETTE[1]), ("(ignored)", IGNORED)]
    assert legend([example()], NAMES, PALETTE, 255) == [*entries, ("(wrong)", WRONG), ("(right)", RIGHT)]
    without = example()._replace(truth=np.array([[2, 2, 2, 2]]))
    assert [name for name, _ in legend([without], NAMES, PALETTE, 255)] == ["road", "tree", "sky", "(wrong)", "(right)"]


def test_rows_and_columns_lie_on_the_sheet() -> None:
    large = example(scale=200)  # 200×800, to be reduced to 80×320
    sheet = picture_grid([large, large], NAMES, PALETTE, 255)
    for row in range(2):
        top = MARGIN + LINE + row * (80 + LINE + GAP)
        for column, tile in enumerate(tiles(example(), PALETTE, 255)):
            left = MARGIN + column * (TILE + GAP)
            seen = sheet[top + 40, [left + 40, left + 120, left + 200, left + 280]]
            np.testing.assert_array_equal(seen, tile[0])
    assert sheet.shape[1] == 2 * MARGIN + len(COLUMNS) * TILE + (len(COLUMNS) - 1) * GAP
    legend_colours = {tuple(pixel) for pixel in sheet[-MARGIN - LINE :].reshape(-1, 3)}
    assert {PALETTE[0], PALETTE[1], IGNORED, WRONG, RIGHT} <= legend_colours and PALETTE[2] not in legend_colours


def test_a_long_legend_takes_several_lines_and_keeps_every_class() -> None:
    count = 40
    names = [f"a class with quite a long name {index}" for index in range(count)]
    colours = distinct_colours(count)
    ids = np.arange(count)[None]
    image = np.zeros((1, count, 3), dtype=np.uint8)
    sheet = picture_grid([Segmented("all.png", image, ids, ids)], names, colours, 255)
    assert len(set(colours)) == count
    assert set(colours) <= {tuple(pixel) for pixel in sheet.reshape(-1, 3)}
