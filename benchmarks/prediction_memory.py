"""Memory of `predict` per pixel of a large image, decoded, predicted by windows and written.

    python benchmarks/prediction_memory.py [--side 3000]

The largest memory of a process that predicts one square image of this side, less that of one that predicts a single
window, over the pixels they differ by. The backbone is tiny and loading happens in the same process (`num_workers: 0`),
so that what grows is what each pixel costs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from lightning.pytorch import Trainer
from PIL import Image

from datamodules.folder import FolderDataModule
from src.backbones.backbone import Backbone
from src.callbacks.predictions import PredictionWriter
from src.segmentation import SemanticSegmentation
from src.segmentation.inference import SlidingWindow

WINDOW = 512


def largest_memory(side: int) -> int:
    """Peak memory of this process in bytes, after predicting an image."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        Image.linear_gradient("L").resize((side, side)).convert("RGB").save(images / "image.png")
        data = FolderDataModule(
            images, class_names=["a", "b", "c"], task="segment", evaluation="native", predict_on=images, num_workers=0
        )
        inference = SlidingWindow(WINDOW, WINDOW, batch=1)
        model = SemanticSegmentation(Backbone("test_vit", "none"), data.num_classes, inference=inference)
        trainer = Trainer(
            default_root_dir=Path(folder, "run"),
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[PredictionWriter()],
        )
        trainer.predict(model, datamodule=data, return_predictions=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print bytes per pixel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=3000)
    parser.add_argument("--alone", action="store_true", help="predict in this process and print its bytes")
    options = parser.parse_args()
    if options.alone:
        print(largest_memory(options.side))
        return
    small, large = (
        int(
            subprocess.run(
                [sys.executable, __file__, "--alone", f"--side={side}"], check=True, capture_output=True, text=True
            ).stdout.split()[-1]
        )
        for side in (WINDOW, options.side)
    )
    pixels = options.side**2 - WINDOW**2
    print(f"{small / 1e6:.0f} MB for {WINDOW}×{WINDOW}, {large / 1e6:.0f} MB for {options.side}×{options.side}")
    print(f"{(large - small) / pixels:.1f} bytes per pixel")


if __name__ == "__main__":
    main()
