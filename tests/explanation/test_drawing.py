"""Drawings put light, frames and lines where the numbers say."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from src.explanation.drawing import GAP, TITLE, boxes, fitted, heat, joined, sheet
from src.explanation.palette import MARKS

GREY = np.full((40, 60, 3), 120, dtype=np.uint8)


def test_images_are_fitted_to_whole_patches_near_the_side_asked_for() -> None:
    assert fitted(np.zeros((360, 480, 3), np.uint8), patch=14, side=336).shape == (252, 336, 3)
    assert fitted(np.zeros((3, 900, 3), np.uint8), patch=16, side=64).shape == (16, 64, 3)


def test_heat_is_brightest_where_the_value_is_largest() -> None:
    values = torch.zeros(4, 6)
    values[1, 4] = 2.0
    shown = np.asarray(heat(GREY, values)).astype(int).sum(-1)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert (row // 10, column // 10) == (1, 4)
    assert shown[35, 5] < 0.4 * GREY[0, 0].sum()


def test_a_box_frames_its_patches() -> None:
    shown = np.asarray(boxes(GREY, [(1, 2, 3, 4)], patch=10))
    assert tuple(shown[10, 20]) == tuple(shown[29, 39]) == MARKS[0]
    assert tuple(shown[9, 20]) == tuple(shown[20, 30]) == (120, 120, 120)


def test_a_line_ends_in_the_second_picture() -> None:
    shown = np.asarray(joined(GREY, GREY, [(torch.tensor([20.0, 10.0]), torch.tensor([20.0, 50.0]), (1, 2, 3))]))
    assert shown.shape == (40, 120 + GAP, 3)
    assert tuple(shown[20, 60 + GAP + 50]) == (1, 2, 3)
    assert tuple(shown[20, 62]) == (1, 2, 3)  # across the gap


def test_a_sheet_holds_every_picture_below_its_title() -> None:
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (30, 10), "blue")
    shown = np.asarray(sheet([[("a", red), ("b", blue)], [("c", blue)]]))
    assert shown.shape == (2 * (10 + TITLE) + GAP, 50 + 3 * GAP, 3)
    assert tuple(shown[TITLE, GAP]) == (255, 0, 0)
    assert tuple(shown[TITLE, 2 * GAP + 20]) == tuple(shown[2 * TITLE + 10, GAP]) == (0, 0, 255)
