"""Write predictions: id masks, colour overlays and probabilities, in the images' folder structure."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from PIL import Image

from src.callbacks.georeference import georeference, write_geotiff
from src.callbacks.prediction_files import flat_targets, folder_of, refuse_among, targets_of, write_whole, write_zip
from src.callbacks.prediction_head import HEAD, head_record, recorded_head
from src.core.atomic_files import make_folder, write_text
from src.core.errors import UserError
from src.core.file_contents import paths_of
from src.core.json_files import write_json
from src.segmentation.evaluation_loop import Prediction, ScoredSegmentation


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions image by image, so that a kill loses at most one.

    Files below the output folder for an image `a/b.jpg` (images that would share a name keep their suffixes):

    - `masks/a/b.png`: ids, 8 bits, or 16 if an id needs them; a GeoTIFF for a GeoTIFF, if rasterio is installed;
    - `overlays/a/b.png`: the image, half covered by the colours of its classes;
    - `probabilities/a/b.npz`: `probabilities`, float16 `[C, h, w]`, and `class_names`;
    - `classes.json`: name, id in the masks, and colour of each class;
    - `head.json`: hashes of the head and of all settings that affect its masks.

    A folder holds the predictions of one head: predictions of another are refused, or removed first with `overwrite`.

    For a benchmark's test images (`submission` of the data module; LoveDA), files are named like the images, without
    folders, masks hold classes 0, 1, …, and `submission.zip` holds the masks.

    Args:
        output: Folder; `predictions` in the run folder if None.
        ids: Masks hold the ids of the data set's own masks (`dataset`), or classes 0, 1, … (`classes`). None takes
            classes for a submission, else the data set's ids, with which no submission is written.
        overlays: Write overlays.
        probabilities: Write probabilities: 2 bytes per class and pixel in memory, for one image at a time.
        existing: How to handle existing files: `refuse` to start; `skip` the images whose files are complete and newer
            than the image, and report their number; or `overwrite` them.
    """

    def __init__(
        self,
        output: Path | None = None,
        ids: Literal["dataset", "classes"] | None = None,
        overlays: bool = True,
        probabilities: bool = False,
        existing: Literal["refuse", "skip", "overwrite"] = "refuse",
    ) -> None:
        super().__init__("batch")
        self.output = output
        self.ids = ids
        self.overlays = overlays
        self.probabilities = probabilities
        self.existing = existing

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """List the files to write, before the first image is read.

        Raises:
            UserError: If one of them exists and may not be replaced, or belongs to another head; if the folder is
                inside the folder of images; or if the model or the data cannot predict masks.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, ScoredSegmentation) or not hasattr(data, "predict_source"):
            raise UserError(
                f"predict writes masks, which {type(pl_module).__name__} on {type(data).__name__} does not produce; "
                "use a configuration of a segmentation head or of nearest neighbours, and a data module of this "
                "project"
            )
        super().setup(trainer, pl_module, stage)
        pl_module.predicts_probabilities = self.probabilities
        self.folder = Path(self.output or Path(trainer.default_root_dir) / "predictions")
        source = data.predict_source()
        names = [source.name(index) for index in range(len(source))]
        root: Path | None = getattr(_files(source), "root", None)
        if root is not None:
            refuse_among(self.folder, data.predict_on or folder_of(root, names))
        submission = data.submission and self.ids != "dataset"
        targets = dict(zip(names, flat_targets(names) if submission else targets_of(names), strict=True))
        enough = all if self.existing == "skip" else any  # an image is done when all its requested files exist
        there = [index for index, name in enumerate(names) if enough(self._there(targets[name]))]
        if self.existing == "skip":
            there = [index for index in there if not self._replaced(paths_of(source, index), targets[names[index]])]
        made_by = head_record(trainer, pl_module, data, self.ids)
        others = recorded_head(self.folder) != made_by and any((self.folder / "masks").rglob("*.*"))
        trainer.strategy.barrier("predictions listed")  # no rank writes before every rank has checked
        if there and self.existing == "refuse":
            raise UserError(
                f"{self.folder}: holds predictions of {len(there)} of these {len(names)} images already, such as "
                f"those of {names[there[0]]}; choose another --predictions.output, or --predictions.existing skip or "
                "overwrite"
            )
        if others and self.existing != "overwrite":
            raise UserError(
                f"{self.folder}: holds predictions of another head or with other settings; choose another "
                "--predictions.output, or replace all of them with --predictions.existing overwrite"
            )
        if there and self.existing == "skip":
            data.predict_only(sorted(set(range(len(names))) - set(there)))
        if trainer.is_global_zero:
            done = f", {len(there)} of them there already: {self.existing}" if there else ""
            print(f"predicting {len(names)} images into {self.folder}{done}", file=sys.stderr)
        self._targets, self._source = targets, data.predict_source()
        self._colours = np.asarray(data.palette, dtype=np.uint8)
        by_class = submission or self.ids == "classes"
        self._ids = np.asarray(range(data.num_classes) if by_class else data.ids)
        self._ids = self._ids.astype(np.uint8 if self._ids.max() < 256 else np.uint16)
        self._archive = self.folder / "submission.zip" if submission else None
        if trainer.is_global_zero:
            if others:
                for kind in ("masks", "overlays", "probabilities"):
                    shutil.rmtree(self.folder / kind, ignore_errors=True)
            self._write_classes(pl_module.class_names)
            write_json(self.folder / HEAD, made_by)
            if self._archive is not None:
                self._archive.unlink(missing_ok=True)  # of older masks
            if self.existing == "skip" and len(there) == len(names):
                self._archive_masks()  # images to skip; if nothing is predicted, no other hook runs

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: list[Prediction],
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the files of a batch; the mask comes last, so that an image with a mask is done."""
        assert isinstance(pl_module, ScoredSegmentation)
        indices = batch.indices.tolist()
        for place, (index, (name, mask, probabilities)) in enumerate(zip(indices, prediction, strict=True)):
            target, classes = self._targets[name], mask.cpu().numpy()
            if self.overlays:
                seen = batch.images[place]  # may be the original image, which is then not read again
                native = isinstance(batch.images, list) and seen.shape[-2:] == mask.shape
                image = seen.permute(1, 2, 0).cpu().numpy() if native else self._source.image(index)
                covered = half_covered(image, self._colours, classes)
                write_whole(self.folder / "overlays" / f"{target}.png", covered.save)
            if probabilities is not None:
                content = {"probabilities": probabilities.numpy(), "class_names": np.asarray(pl_module.class_names)}
                write_whole(
                    self.folder / "probabilities" / f"{target}.npz",
                    lambda path, content=content: np.savez_compressed(path, **content),  # type: ignore[misc]
                )
            self._write_mask(name, target, classes)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Zip the masks of a submission, after all ranks have written theirs."""
        trainer.strategy.barrier("predictions written")
        if trainer.is_global_zero:
            self._archive_masks()

    def _archive_masks(self) -> None:
        """Write the zip of a submission, if all its masks exist."""
        masks = [self.folder / "masks" / f"{target}.png" for target in self._targets.values()]
        if self._archive is not None and all(mask.is_file() for mask in masks):
            write_whole(self._archive, lambda path: write_zip(path, masks))

    def _write_mask(self, name: str, target: str, classes: NDArray[np.integer[Any]]) -> None:
        ids, masks = self._ids[classes], self.folder / "masks"
        root: Path | None = getattr(_files(self._source), "root", None)
        place = None if root is None else georeference(root / name, ids.shape)
        if place is None:
            write_whole(masks / f"{target}.png", Image.fromarray(ids).save)
        else:
            colours = {int(i): tuple(c) for i, c in zip(self._ids, self._colours.tolist(), strict=True)}
            write_whole(masks / f"{target}.tif", lambda path: write_geotiff(path, ids, place, colours))
        # an earlier one, from before rasterio was installed or removed, would contradict it
        (masks / f"{target}{'.tif' if place is None else '.png'}").unlink(missing_ok=True)

    def _there(self, target: str) -> list[bool]:
        """Existing files of an image, of those to write."""
        mask = any((self.folder / "masks" / f"{target}{suffix}").exists() for suffix in (".png", ".tif"))
        others = {"overlays": (self.overlays, ".png"), "probabilities": (self.probabilities, ".npz")}
        return [mask] + [
            (self.folder / kind / f"{target}{suffix}").exists() for kind, (wanted, suffix) in others.items() if wanted
        ]

    def _write_classes(self, names: list[str]) -> None:
        rows = zip(names, self._ids.tolist(), self._colours.tolist(), strict=True)
        text = json.dumps([{"name": n, "id": i, "colour": c} for n, i, c in rows], indent=2, ensure_ascii=False)
        make_folder(self.folder)
        write_text(self.folder / "classes.json", text + "\n")

    def _replaced(self, files: Sequence[Path], target: str) -> bool:
        """Return True if an image is newer than its mask."""
        masks = [self.folder / "masks" / f"{target}{suffix}" for suffix in (".png", ".tif")]
        made = min(mask.stat().st_mtime_ns for mask in masks if mask.exists())
        return any(file.stat().st_mtime_ns > made for file in files[:1] if file.exists())


def half_covered(
    image: NDArray[np.uint8], colours: NDArray[np.uint8], classes: NDArray[np.integer[Any]]
) -> Image.Image:
    """RGB `[h, w, 3]`, half covered by the colours `[C, 3]` of classes `[h, w]`."""
    height, width = classes.shape
    picture = Image.new("RGB", (width, height))
    rows = max(1, 2**18 // width)  # at a time, since 16-bit sums of a large image take twice its memory
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        covered = (image[strip].astype(np.uint16) + colours[classes[strip]] + 1) // 2
        picture.paste(Image.fromarray(covered.astype(np.uint8)), (0, top))
    return picture


def _files(source: Any) -> Any:
    """The source below any `Subset`."""
    while hasattr(source, "source"):
        source = source.source
    return source
