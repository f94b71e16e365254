"""Objects of a generated scene, their shadows, and the camera.

Canvas arrays are `[side, side]` or `[side, side, 3]`, float32, RGB in [0, 1]; points are (x, y) in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.painting import (
    BUILDING,
    FOREST,
    MEADOW,
    ROAD,
    TREE,
    VILLAGE,
    WATER,
    Canvas,
    Floats,
    Parcels,
    grain,
    lay_parcels,
    new_canvas,
    noise,
    paint_ground,
    paint_roads,
    paint_water,
    tone,
)

_ROOFS = np.array(
    [(0.60, 0.30, 0.22), (0.48, 0.28, 0.22), (0.42, 0.38, 0.35), (0.52, 0.52, 0.53), (0.74, 0.73, 0.70)], np.float32
)
_LEAVES = np.array(
    [(0.10, 0.19, 0.12), (0.13, 0.24, 0.10), (0.20, 0.32, 0.13), (0.33, 0.38, 0.16), (0.44, 0.38, 0.18)], np.float32
)

_BUILT = np.isin(np.arange(TREE + 1), (ROAD, WATER, BUILDING))  # classes that keep other objects away


def paint_scene(draws: np.random.Generator, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint one scene: the land, the objects on it, and the photograph of both.

    Args:
        draws: Source of all randomness.
        side: Side of the image, pixels.

    Returns:
        RGB `[side, side, 3]` and classes `[side, side]`, both uint8.
    """
    canvas = new_canvas(draws, side)
    parcels = lay_parcels(canvas)
    paint_ground(canvas, parcels)
    if draws.random() < 0.55:
        paint_water(canvas)
    paint_roads(canvas, parcels)
    paint_buildings(canvas, parcels)
    paint_trees(canvas, parcels)
    return photograph(canvas), canvas.classes


def paint_buildings(canvas: Canvas, parcels: Parcels) -> None:
    """Houses in loose rows in the villages, and now and then a farm of a few barns next to a field."""
    draws, scale = canvas.draws, canvas.scale
    places: list[tuple[NDArray[np.float64], float]] = []  # centre (u, v), size factor
    for kind, (u0, v0, u1, v1) in zip(parcels.kinds, parcels.boxes, strict=True):
        if kind == VILLAGE:
            step = draws.uniform(25, 38) * scale
            for u in np.arange(u0 + step / 2, u1, step):
                for v in np.arange(v0 + step / 2, v1, step):
                    if draws.random() < 0.75:
                        places.append((np.array([u, v]) + draws.normal(0, 2.5 * scale, 2), draws.uniform(0.8, 1.15)))
        elif draws.random() < 0.12:
            corner = np.array([u0, v0]) + draws.uniform(0.2, 0.8, 2) * np.array([u1 - u0, v1 - v0])
            for i in range(int(draws.integers(1, 4))):
                places.append((corner + np.array([0, i * 26 * scale]), draws.uniform(1.2, 1.9)))
    style = draws.random()
    footprints = []
    shadow = np.zeros((canvas.side, canvas.side), np.uint8)
    for centre, factor in places:
        half = np.array([draws.uniform(7, 12), draws.uniform(4.5, 7)]) * scale * factor
        if draws.random() < 0.5:
            half = half[::-1]
        corners = canvas.pixels(centre + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))
        if _free(canvas, np.vstack([corners, corners.mean(0, keepdims=True)])):
            cast = corners + canvas.shadow * draws.uniform(5, 10) * scale * factor
            hull = cv2.convexHull(np.vstack([corners, cast]).astype(np.float32))
            cv2.fillConvexPoly(shadow, np.rint(hull).astype(np.int32), 255)
            footprints.append(corners)
    _darken(canvas, shadow.astype(np.float32) / 255)
    for corners in footprints:
        _paint_roof(canvas, corners, style)


def paint_trees(canvas: Canvas, parcels: Parcels) -> None:
    """Closed forest in its parcels, gardens in villages, some hedges and single trees; crowns are lit domes."""
    draws, scale, side = canvas.draws, canvas.scale, canvas.side
    spots: list[NDArray[np.float64]] = []
    for kind, (u0, v0, u1, v1) in zip(parcels.kinds, parcels.boxes, strict=True):
        area = (u1 - u0) * (v1 - v0) / scale**2
        corner, extent = np.array([u0, v0]), np.array([u1 - u0, v1 - v0])
        if kind == FOREST:
            step = 8.5 * scale
            grid = np.stack(np.meshgrid(np.arange(u0, u1, step), np.arange(v0, v1, step)), -1).reshape(-1, 2)
            spots += list(grid + draws.normal(0, 0.3 * step, grid.shape))
        else:
            density = {VILLAGE: 1 / 500, MEADOW: 1 / 1500}.get(int(kind), 1 / 12000)
            spots += list(corner + extent * draws.random((int(draws.poisson(area * density)), 2)))
        if draws.random() < 0.2:  # a hedge along one side
            along = np.arange(0, 1, 7 * scale / extent[0])
            spots += list(
                corner + np.stack([along, np.zeros_like(along)], -1) * extent + draws.normal(0, scale, (len(along), 2))
            )
    ragged = 1 + 0.22 * noise(draws, side, 24, 2)
    height = np.zeros((side, side), np.float32)
    crowns = np.zeros((side, side, 3), np.float32)
    season = canvas.dryness * 0.6 + draws.normal(0, 0.15)
    places = canvas.pixels(np.array(spots).reshape(-1, 2))
    for place in places[((places > -8 * scale) & (places < side + 8 * scale)).all(1)]:
        if _free(canvas, place[None]):
            colour = tone(draws, _LEAVES, season + draws.normal(0, 0.18))
            _raise_crown(height, crowns, ragged, place, draws.uniform(3.5, 7.5) * scale, colour)
    tree = height > 0.1
    cast = canvas.shadow * 5 * scale
    move = np.array([[1, 0, cast[0]], [0, 1, cast[1]]])
    shade = cv2.warpAffine(tree.astype(np.float32), move, (side, side))
    _darken(canvas, np.where(tree, 0, shade))
    slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    sun = (canvas.shadow / np.hypot(*canvas.shadow)).tolist()
    light = 0.95 + np.clip(0.09 * (sun[0] * slope_x + sun[1] * slope_y) / scale, -0.45, 0.5)
    leaves = crowns * (light + 0.09 * grain(draws, side, side))[..., None]
    canvas.blend(tree, leaves)
    canvas.classes[tree] = TREE


def photograph(canvas: Canvas) -> NDArray[np.uint8]:
    """Photograph the scene: illumination, cloud shadow, haze, lens blur and sensor noise."""
    draws, side = canvas.draws, canvas.side
    image = np.clip(canvas.colour, 0.01, 1)
    image *= (draws.uniform(0.8, 1.25) * (1 + draws.normal(0, 0.035, 3))).astype(np.float32)
    if draws.random() < 0.25:
        cloud = np.clip(noise(draws, side, 1, 2) - draws.uniform(0.0, 0.8), 0, 1)
        image *= 1 - draws.uniform(0.3, 0.5) * cloud[..., None]
    haze = draws.beta(1.2, 4) * 0.6 * np.clip(1 + 0.25 * noise(draws, side, 1, 2), 0, 1.5)[..., None]
    image += haze.astype(np.float32) * (np.array([0.74, 0.79, 0.86], np.float32) - image)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), draws.uniform(0.45, 0.8)), np.float32)
    image += draws.uniform(0.004, 0.022) * grain(draws, side, side, 3) * np.sqrt(image + 0.1)
    curve = (np.arange(256) / 255) ** draws.uniform(0.8, 1.2) * 255  # the camera's gamma
    return curve.round().astype(np.uint8)[np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)]


def _paint_roof(canvas: Canvas, corners: NDArray[np.float64], style: float) -> None:
    """A gable roof with a lit and a dark half, or a flat one with a rim and a box on it."""
    draws = canvas.draws
    if np.hypot(*(corners[1] - corners[0])) < np.hypot(*(corners[2] - corners[1])):
        corners = np.roll(corners, 1, axis=0)  # the first edge is the long one
    colour = tone(draws, _ROOFS, style + draws.normal(0, 0.25))
    middle = (corners[[0, 1]] + corners[[3, 2]]) / 2
    if draws.random() < 0.75:
        across = (corners[3] - corners[0]) / np.hypot(*(corners[3] - corners[0]))
        slope = 0.24 * float(across @ canvas.shadow / np.hypot(*canvas.shadow))
        halves = (np.vstack([corners[:2], middle[::-1]]), 1 + slope), (np.vstack([middle, corners[[2, 3]]]), 1 - slope)
        for half, light in halves:
            _fill(canvas, half, colour * light)
        ends = np.rint(middle).astype(int)
        cv2.line(canvas.colour, ends[0].tolist(), ends[1].tolist(), (colour * 1.2).tolist(), 1)
    else:
        _fill(canvas, corners, colour * 1.18)
        centre = corners.mean(0)
        _fill(canvas, centre + 0.82 * (corners - centre), colour)
        if draws.random() < 0.6:
            _fill(
                canvas, centre + 0.25 * draws.normal(0, 1, 2) * canvas.scale + 0.25 * (corners - centre), colour * 0.75
            )
    cv2.fillConvexPoly(canvas.classes, np.rint(corners).astype(np.int32), BUILDING)


def _fill(canvas: Canvas, corners: NDArray[np.float64], colour: Floats) -> None:
    cv2.fillConvexPoly(canvas.colour, np.rint(corners).astype(np.int32), colour.tolist())


def _darken(canvas: Canvas, shade: NDArray[Any]) -> None:
    """Cast shadows, lit only by the blue of the sky."""
    soft = cv2.GaussianBlur(shade, (0, 0), 0.7)[..., None]
    canvas.colour *= 1 - soft * np.array([0.62, 0.58, 0.5], np.float32)


def _free(canvas: Canvas, points: NDArray[np.float64]) -> bool:
    """Return whether no point is on a road, a building or water; points outside the scene are free."""
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < canvas.side) & (y < canvas.side)
    return not _BUILT[canvas.classes[y[inside], x[inside]]].any()


def _raise_crown(
    height: Floats, crowns: Floats, ragged: Floats, at: NDArray[np.float64], radius: float, colour: Floats
) -> None:
    """Raise a dome with a ragged edge where it is the highest object, and colour it."""
    x, y = float(at[0]), float(at[1])
    reach = math.ceil(radius * 1.3)
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    window = slice(top, max(0, int(y) + reach + 1)), slice(left, max(0, int(x) + reach + 1))
    here = height[window]
    if here.size == 0:
        return
    rows = np.arange(top - y, top - y + here.shape[0] - 0.5, dtype=np.float32)
    columns = np.arange(left - x, left - x + here.shape[1] - 0.5, dtype=np.float32)
    distance = (rows[:, None] ** 2 + columns**2) * (ragged[window] / radius**2)
    dome = np.float32(radius) * np.sqrt(np.clip(1 - distance, 0, None))
    higher = dome > here
    here[higher] = dome[higher]
    crowns[window][higher] = colour
