"""The palette of tables, charts and reports, in light and dark mode, and of marks and classes on images."""

from src.core.colours import Colour

LIGHT = {
    "paper": "#fbfaf7", "card": "#ffffff", "ink": "#1d2129", "soft": "#5d6573", "line": "#e2dfd7",
    "up": "#14784a", "up-soft": "#e2f3e9", "down": "#b3362b", "down-soft": "#fae6e2",
    "flat": "#6a6f7b", "flat-soft": "#eeedea",
    "s0": "#2f6f9f", "s1": "#c2641a", "s2": "#6b4fa0", "s3": "#14784a", "s4": "#a3315f", "s5": "#5d6573",
}  # fmt: skip
DARK = {
    "paper": "#14161a", "card": "#1c1f25", "ink": "#e9e7e2", "soft": "#a2a8b3", "line": "#32363f",
    "up": "#63c991", "up-soft": "#173526", "down": "#f0877a", "down-soft": "#40201c",
    "flat": "#a2a8b3", "flat-soft": "#2a2d34",
    "s0": "#7db8e3", "s1": "#f0a15f", "s2": "#b79ee6", "s3": "#63c991", "s4": "#e788b0", "s5": "#a2a8b3",
}  # fmt: skip
SERIES = [LIGHT[f"s{number}"] for number in range(6)]

# Colours on images, as pixel values.
MARKS: tuple[Colour, ...] = (  # Okabe and Ito's colours, distinguishable with colour blindness
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
MATCH, MISMATCH = MARKS[1], MARKS[4]  # lines between patches
HEAT: Colour = (255, 176, 32)  # amber: visible on any image and with red-green colour blindness
IGNORED: Colour = (30, 30, 30)  # pixels without a class
RIGHT, WRONG = (225, 225, 225), (215, 25, 60)  # pixels of a prediction
TEXT: Colour = (60, 60, 60)
OPACITY = 0.6  # opacity of classes and errors over the image (our choice)
