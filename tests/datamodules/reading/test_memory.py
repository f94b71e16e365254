"""Memory that decoding takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.reading.decoders import DECODERS

ROOT = Path(__file__).resolve().parents[3]
HEIGHT, WIDTH = 2000, 3000
PEAK = """
import resource, sys
from pathlib import Path
from datamodules.reading.images import read_image
from datamodules.reading.stretching import Stretch

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

small, large, stretch = Path(sys.argv[1]), Path(sys.argv[2]), Stretch(*eval(sys.argv[3]))
read_image(small, stretch)
before = peak()
read_image(large, stretch)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
@pytest.mark.parametrize("name", ["grey.png", "colour.png", "grey.tif", "colour.tif"])
@pytest.mark.parametrize("stretch", ["()", "((1, 99),)"])
def test_sixteen_bits_take_at_most_20_bytes_a_pixel(tmp_path: Path, name: str, stretch: str) -> None:
    channels = (3,) if name.startswith("colour") else ()
    pixels = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, *channels), np.uint16)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 0] if name.endswith("png") else [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    cv2.imwrite(str(tmp_path / name), pixels, options)
    cv2.imwrite(str(tmp_path / f"small-{name}"), pixels[:64, :64])
    command = [sys.executable, "-c", PEAK, str(tmp_path / f"small-{name}"), str(tmp_path / name), stretch]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) / (HEIGHT * WIDTH) <= 20


def test_few_images_are_decoded_at_a_time() -> None:
    assert 1 <= DECODERS <= 4
