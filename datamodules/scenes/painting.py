"""Ground of a generated scene: parcels, water and roads.

Colours of the classes overlap on purpose: bare soil and ploughed fields differ only in their rows, as do meadows and
green crops; grey roofs and roads differ in shape and shadow.

Coordinates: (x, y) in pixels, and (u, v) along and across the parcels, in pixels from the centre of the scene.
Canvas arrays are `[side, side]` or `[side, side, 3]`, float32, RGB in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SOIL, FIELD, MEADOW, ROAD, BUILDING, WATER, TREE = range(7)
FOREST, VILLAGE = 7, 8  # kinds of parcels, not classes: their ground is meadow

_ASPHALT, _DASH, _TRACK = 1, 2, 3
_SOILS = np.array([(0.47, 0.37, 0.27), (0.53, 0.46, 0.37), (0.56, 0.39, 0.28), (0.67, 0.59, 0.46)], np.float32)
_CROPS = np.array(
    [(0.24, 0.40, 0.16), (0.38, 0.50, 0.22), (0.55, 0.56, 0.28), (0.73, 0.64, 0.36), (0.62, 0.53, 0.37)], np.float32
)
_MEADOWS = np.array([(0.29, 0.42, 0.19), (0.38, 0.46, 0.23), (0.47, 0.48, 0.28), (0.57, 0.53, 0.34)], np.float32)
_WATERS = np.array([(0.09, 0.17, 0.21), (0.17, 0.25, 0.17), (0.35, 0.31, 0.23), (0.29, 0.37, 0.43)], np.float32)


@dataclass
class Canvas:
    """A scene being painted.

    Attributes:
        colour: `[side, side, 3]`.
        classes: `[side, side]`.
        draws: Source of all randomness.
        scale: Pixels per unit of length; 1 for a ground resolution of about half a metre.
        shadow: (x, y) from the foot of an object of height 1 to its shadow's end.
        dryness: 0, lush and green, to 1, dry and yellow.
        angle: Direction of the parcels, radians.
    """

    colour: Floats
    classes: NDArray[np.uint8]
    draws: np.random.Generator
    scale: float
    shadow: NDArray[np.float64]
    dryness: float
    angle: float

    @property
    def side(self) -> int:
        return self.classes.shape[0]

    def blend(self, weight: NDArray[Any], colour: NDArray[Any]) -> None:
        """Lay one colour `[3]`, or one per pixel, over the canvas with weights of 0–1 (or a bool mask)."""
        rows = np.flatnonzero(weight.any(1))
        if rows.size:  # most things cover a band of the scene only
            band = slice(rows[0], rows[-1] + 1)
            part = self.colour[band]
            new = colour.astype(np.float32) if colour.ndim == 1 else colour[band].astype(np.float32)
            part += weight[band].astype(np.float32)[..., None] * (new - part)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(u, v) → (x, y), `[..., 2]`."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return points @ np.array([[c, s], [-s, c]]) + self.side / 2


@dataclass
class Parcels:
    """Division of the ground into parcels.

    Attributes:
        ids: Parcel of each pixel, `[side, side]`.
        kinds: Class or kind of each parcel.
        boxes: (u0, v0, u1, v1) of each parcel.
        roads: Kind of road of each pixel, 0 for none, `[side, side]`.
    """

    ids: NDArray[np.uint8]
    kinds: NDArray[np.int64]
    boxes: NDArray[np.float64]
    roads: NDArray[np.uint8]


def new_canvas(draws: np.random.Generator, side: int) -> Canvas:
    """An empty canvas with the scene's conditions drawn."""
    sun, length = draws.uniform(0, 2 * math.pi), draws.uniform(0.5, 1.4)
    return Canvas(
        colour=np.zeros((side, side, 3), np.float32),
        classes=np.zeros((side, side), np.uint8),
        draws=draws,
        scale=side / 256 * draws.uniform(0.75, 1.3),
        shadow=length * np.array([math.cos(sun), math.sin(sun)]),
        dryness=draws.uniform(0, 1),
        angle=draws.uniform(0, math.pi),
    )


def noise(draws: np.random.Generator, side: int, coarsest: int, octaves: int) -> Floats:
    """Smooth noise of about unit variance: enlarged random grids, each twice as fine and about half as strong."""
    half = (side + 1) // 2  # octaves are summed at half resolution, which is fine enough for all of them
    total = np.zeros((half, half), np.float32)
    for octave in range(octaves):
        cells = coarsest * 2**octave
        grid = draws.standard_normal((cells + 3, cells + 3), dtype=np.float32)
        reach = math.ceil(half * (cells + 3) / cells)
        start = (reach - half) // 2  # the outermost cells would be extrapolated
        smooth = cv2.resize(grid, (reach, reach), interpolation=cv2.INTER_CUBIC)
        total += smooth[start : start + half, start : start + half] * np.float32(0.55**octave)
    total /= np.float32(0.75 * math.sqrt(sum(0.55 ** (2 * octave) for octave in range(octaves))))
    return np.asarray(cv2.resize(total, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def grain(draws: np.random.Generator, *shape: int) -> Floats:
    """White noise of zero mean and unit variance: two dice per value, many times faster than a normal distribution."""
    dice = np.frombuffer(draws.bytes(2 * math.prod(shape)), np.uint8).reshape(2, *shape)
    return (np.add(*dice, dtype=np.float32) - np.float32(255)) * np.float32(1 / 104.5)


def tone(draws: np.random.Generator, palette: Floats, position: float | None = None) -> Floats:
    """A colour interpolated in a palette at a position of 0–1, or at a random one, slightly varied."""
    place = (draws.random() if position is None else min(max(position, 0.0), 1.0)) * (len(palette) - 1)
    low = min(int(place), len(palette) - 2)
    mixed = palette[low] + (place - low) * (palette[low + 1] - palette[low])
    return (mixed * draws.uniform(0.88, 1.12) + draws.normal(0, 0.012, 3)).astype(np.float32)


def lay_parcels(canvas: Canvas) -> Parcels:
    """Divide the ground by cuts along two directions, some of which are roads; then bend everything a little."""
    draws, side = canvas.draws, canvas.side
    reach = 0.75 * side
    smallest = draws.uniform(55, 110) * canvas.scale
    queue = [(-reach, -reach, reach, reach, 0)]
    boxes: list[tuple[float, float, float, float]] = []
    roads = np.zeros((side, side), np.uint8)
    while queue:
        u0, v0, u1, v1, depth = queue.pop()
        longest = max(u1 - u0, v1 - v0)
        if longest < smallest * draws.uniform(1.2, 2.0) or len(boxes) + len(queue) > 250:
            boxes.append((u0, v0, u1, v1))
            continue
        share = draws.uniform(0.35, 0.65)
        if u1 - u0 >= v1 - v0:
            cut = u0 + share * (u1 - u0)
            line, halves = ((cut, v0), (cut, v1)), ((u0, v0, cut, v1), (cut, v0, u1, v1))
        else:
            cut = v0 + share * (v1 - v0)
            line, halves = ((u0, cut), (u1, cut)), ((u0, v0, u1, cut), (u0, cut, u1, v1))
        if draws.random() < (0.75, 0.4, 0.25, 0.12, 0.0)[min(depth, 4)]:
            _draw_road(
                canvas, roads, canvas.pixels(np.array(line)), paved=draws.random() < (0.9, 0.7, 0.4, 0.2)[min(depth, 3)]
            )
        queue += [(*half, depth + 1) for half in halves]
    ids = np.zeros((side, side), np.uint8)
    for i, (u0, v0, u1, v1) in enumerate(boxes):
        corners = canvas.pixels(np.array([(u0, v0), (u1, v0), (u1, v1), (u0, v1)]))
        cv2.fillConvexPoly(ids, np.rint(corners).astype(np.int32), i)
    bend = draws.uniform(0, 7) * canvas.scale
    grid = np.arange(side, dtype=np.float32)
    map_x = grid[None] + bend * noise(draws, side, 2, 2)
    map_y = grid[:, None] + bend * noise(draws, side, 2, 2)
    ids, roads = (
        np.asarray(cv2.remap(a, map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        for a in (ids, roads)
    )
    shares = draws.dirichlet([3.0, 0.9, 1.2, 0.8, 0.9])
    kinds = draws.choice([FIELD, SOIL, MEADOW, FOREST, VILLAGE], size=len(boxes), p=shares)
    return Parcels(ids, kinds, np.array(boxes), roads)


def paint_ground(canvas: Canvas, parcels: Parcels) -> None:
    """Two colours per parcel, mixed by rows, smooth noise and fine noise, in proportions that depend on its kind."""
    draws, side, count = canvas.draws, canvas.side, len(parcels.kinds)
    colours = np.zeros((2, count, 3))
    wave = np.zeros((count, 3))  # rows per pixel along x and y, and position of the first one
    rows, smooth, fine, bias, tram = (np.zeros(count) for _ in range(5))
    for i, kind in enumerate(parcels.kinds):
        direction = canvas.angle + draws.choice([0.0, math.pi / 2]) + draws.normal(0, 0.06)
        frequency = 1 / (draws.uniform(3.6, 9.0) * canvas.scale)
        wave[i] = frequency * math.cos(direction), frequency * math.sin(direction), draws.random()
        if kind == FIELD:
            ploughed = draws.random() < 0.3
            colours[0, i] = tone(draws, _SOILS)
            ripeness = canvas.dryness + draws.normal(0, 0.25)
            colours[1, i] = colours[0, i] * draws.uniform(0.62, 0.8) if ploughed else tone(draws, _CROPS, ripeness)
            rows[i], smooth[i], fine[i] = draws.uniform(0.35, 0.7), draws.uniform(0.05, 0.2), draws.uniform(0.05, 0.25)
            bias[i], tram[i] = draws.uniform(-0.1, 0.45), draws.random() < 0.4
        elif kind == SOIL:
            colours[:, i] = tone(draws, _SOILS), tone(draws, _SOILS)
            colours[1, i] = (colours[0, i] + colours[1, i]) / 2
            smooth[i], fine[i] = draws.uniform(0.2, 0.5), draws.uniform(0.08, 0.25)
        else:
            colours[:, i] = [tone(draws, _MEADOWS, canvas.dryness + draws.normal(0, 0.25)) for _ in range(2)]
            smooth[i], fine[i] = draws.uniform(0.3, 0.6), draws.uniform(0.1, 0.3)
    ids = parcels.ids
    y, x = np.mgrid[:side, :side].astype(np.float32)
    across = wave[:, 0].astype(np.float32)[ids] * x + wave[:, 1].astype(np.float32)[ids] * y
    across += wave[:, 2].astype(np.float32)[ids] + 0.15 * noise(draws, side, 3, 2)
    lines = rows.astype(np.float32)[ids] * np.sin(2 * math.pi * across)
    lines += smooth.astype(np.float32)[ids] * noise(draws, side, 5, 4)
    lines += fine.astype(np.float32)[ids] * grain(draws, side, side)
    weight = np.clip(0.5 + lines + bias.astype(np.float32)[ids], 0, 1)
    weight[(tram[ids] > 0) & (across % 11 < 0.55)] = 0
    first, second = colours.astype(np.float32)
    canvas.colour[:] = first[ids] + weight[..., None] * (second - first)[ids]
    canvas.colour *= 1 + 0.06 * noise(draws, side, 2, 3)[..., None]
    canvas.classes[:] = np.where(parcels.kinds > BUILDING, MEADOW, parcels.kinds).astype(np.uint8)[ids]
    if draws.random() < 0.6:  # strips of grass between parcels
        width = 1 + 2 * round(canvas.scale)
        border = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((width, width), np.uint8)) > 0
        canvas.blend(0.8 * border, tone(draws, _MEADOWS, canvas.dryness))
        canvas.classes[border] = MEADOW


def paint_water(canvas: Canvas) -> None:
    """A river, the strip around a contour of a bent plane; or a pond, the inside of a bent cone."""
    draws, side = canvas.draws, canvas.side
    y, x = (np.mgrid[:side, :side].astype(np.float32) - side / 2) / side
    if draws.random() < 0.55:
        turn = draws.uniform(0, math.pi)
        level = np.abs(
            math.cos(turn) * x + math.sin(turn) * y + 0.09 * noise(draws, side, 2, 3) - draws.uniform(-0.3, 0.3)
        )
        edge = draws.uniform(10, 26) * canvas.scale / side
    else:
        centre = draws.uniform(-0.4, 0.4, 2).tolist()
        level = np.hypot(x - centre[0], (y - centre[1]) * draws.uniform(0.7, 1.4)) + 0.05 * noise(draws, side, 3, 3)
        edge = draws.uniform(26, 62) * canvas.scale / side
    depth = (edge - level) * side / canvas.scale  # about the distance from the bank
    bank = np.clip(1 + depth / draws.uniform(3, 7), 0, 1)
    canvas.blend(0.8 * bank, tone(draws, _SOILS if draws.random() < 0.4 else _MEADOWS[:2] * 0.7))
    canvas.classes[bank > 0.6] = MEADOW
    colour = tone(draws, _WATERS) * (1 + np.clip(0.25 - depth / 40, -0.1, 0.25))[..., None]
    ripples = cv2.resize(grain(draws, max(1, side // 2), max(1, side // 5)), (side, side))
    colour = colour + (0.02 * noise(draws, side, 2, 2) + draws.uniform(0.0, 0.012) * ripples)[..., None]
    canvas.blend(np.clip(depth / 1.5, 0, 1), colour)
    canvas.classes[depth > 0.75] = WATER


def paint_roads(canvas: Canvas, parcels: Parcels) -> None:
    """Paved roads with a verge and a dashed line, and tracks of bare ground."""
    draws, side = canvas.draws, canvas.side
    # tracks end at water; paved roads cross it
    roads = np.where((canvas.classes == WATER) & (parcels.roads == _TRACK), 0, parcels.roads)
    paved = (roads == _ASPHALT) | (roads == _DASH)
    verge = cv2.GaussianBlur(paved.astype(np.float32), (0, 0), 1.6 * canvas.scale)
    canvas.blend(np.clip(1.6 * verge, 0, 0.7), tone(draws, _SOILS if draws.random() < 0.5 else _MEADOWS))
    grey = (draws.uniform(0.3, 0.6) + draws.normal(0, 0.012, 3)).astype(np.float32)
    wear = 0.02 * grain(draws, side, side) + 0.03 * noise(draws, side, 4, 3)
    canvas.blend(paved, grey + wear[..., None])
    canvas.blend(0.85 * (roads == _DASH), np.full(3, min(0.95, float(grey.mean()) + 0.35)))
    canvas.blend(0.85 * (roads == _TRACK), tone(draws, _SOILS[1:]) * 1.1 + wear[..., None])
    canvas.classes[roads > 0] = ROAD


def _draw_road(canvas: Canvas, roads: NDArray[np.uint8], line: NDArray[np.float64], paved: bool) -> None:
    start, end = line
    width = canvas.draws.uniform(7, 12) if paved else canvas.draws.uniform(2.5, 4)
    kind = _ASPHALT if paved else _TRACK
    cv2.line(roads, _point(start), _point(end), kind, max(2, round(width * canvas.scale)))
    if paved and width > 8.5:
        length = float(np.hypot(*(end - start)))
        step, dash = (end - start) / length, 5 * canvas.scale
        for at in np.arange(0, length, 2.4 * dash):
            cv2.line(roads, _point(start + at * step), _point(start + (at + dash) * step), _DASH, 1)


def _point(xy: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))
