"""A folder of the user's own images, with or without masks."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tqdm import tqdm

from datamodules.base import Colour, DomainDataModule, Split
from datamodules.folder.classes import (
    FolderClasses,
    check_count,
    check_expected,
    check_ids,
    check_known,
    classes_among,
    default_name,
    read_classes,
)
from datamodules.folder.colour_masks import ColourFiles
from datamodules.folder.foreign_labels import foreign_labels
from datamodules.folder.layout import FolderLayout
from datamodules.folder.summary import summarise
from datamodules.known_classes import described
from datamodules.reading.checking import usable
from datamodules.reading.decoders import DECODERS
from datamodules.reading.errors import ImageError, is_file, is_folder
from datamodules.reading.left_out import left_out
from datamodules.reading.listing import list_images
from datamodules.reading.masks import mask_ids
from datamodules.reading.segmentation_folder import pair_masks
from datamodules.reading.sources import Concat, Files, Source
from src.core.atomic_files import write_text
from src.core.colours import distinct_colour
from src.core.errors import MissingFile, UserError
from src.core.printable import printable

REPORT = "data.txt"  # in the run folder


class FolderDataModule(DomainDataModule):
    """Images of any folder, found recursively.

    Layout: images are in `root/images` if there is such a folder, else in `root`. A folder `root/masks` next to them
    holds a mask for each image, at the same relative path, with any suffix. The splits are, in this order of
    preference: the lists `root/train.txt` and `root/val.txt`, one name per line; the subfolders `train` and `val` of
    the folder of images (or `root/train/images`, `root/train/masks`, …); a fixed random fifth of the images for
    validation. Without masks nothing is held out: pre-training reads every image. With `train` and no `val`,
    `evaluate_on: holdout` holds out a fifth of `train`.

    `root/classes.yaml` may give the meaning of ids or colours in the masks; see `datamodules.folder.classes`.

    Files are JPEG (.jfif too), PNG, TIFF, WebP, BMP, PPM, PGM, GIF (its first frame), JPEG 2000 and, with the extra
    `heic`, HEIC; masks in a lossless one of them. Files of other kinds are left out.

    A fit that does not resume writes what it used and what it left out to `data.txt` in its run folder.

    Args:
        root: The folder.
        class_names: Names of ids 0, 1, …; None takes `classes.yaml`, else the ids that the masks hold, in order.
        ignored_ids: Ids in masks to ignore, unless `classes.yaml` lists them; `[]` for masks of 0 and 255.
        mask_ending: Ending of mask names before the suffix, which image names lack: `_mask` for `a_mask.png`.
        class_ids: The id in the masks of each of `class_names`; None numbers them 0, 1, …, ignored ids left out.
        masks: Folder with masks of some of the images, at the same relative paths, instead of masks of all of them in
            `root`; `segment` uses only the labelled images, and holds out a fifth of those; `pretrain` reads all
            images.
        shared: See `DataArguments`.
    """

    def __init__(
        self,
        root: Path,
        class_names: list[str] | None = None,
        ignored_ids: tuple[int, ...] = (255,),
        mask_ending: str = "",
        class_ids: list[int] | None = None,
        masks: Path | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if class_names is not None:
            check_count("class_names", len(class_names))
        if class_ids is not None and (class_names is None or len({*class_ids}) != len(class_names)):
            raise UserError(f"class_ids: expected one distinct id for each of class_names, found {class_ids}")
        self.root = Path(root)
        self.layout = FolderLayout(self.root, None if masks is None else Path(masks))
        self.given_names = class_names
        self.given_ids = class_ids
        self.ignored_ids = ignored_ids
        self.mask_ending = mask_ending
        self._expected: dict[int, str] | None = None  # id → name, of a trained head

    @cached_property
    def described(self) -> FolderClasses | None:
        """Content of `classes.yaml`; None where there is none, or names are given."""
        path = self.root / "classes.yaml"
        return read_classes(path) if self.given_names is None and is_file(path) else None

    @property
    def class_names(self) -> list[str]:
        if self._expected is not None:
            return list(self._expected.values())
        return self._own_names or [default_name(i) for i in self.ids]

    @property
    def palette(self) -> list[Colour]:
        """The colours of `classes.yaml`; else hues a golden angle apart, so that neighbours in id differ."""
        given = {entry.name: entry.colour for entry in self.described.classes} if self.described else {}
        return [given.get(name) or distinct_colour(i) for i, name in enumerate(self.class_names)]

    @property
    def ids(self) -> list[int]:
        """The id of each class in the mask files; those of the trained head once they are known.

        Raises:
            ImageError: If neither names nor masks define the classes, or masks hold one class and ignored ids.
        """
        return self._own_ids if self._expected is None else list(self._expected)

    def expect_classes(self, ids: Sequence[int], names: Sequence[str]) -> None:
        """Read masks with the ids and names that the head was trained on, whatever other ids this folder holds.

        Classes that the masks lack are listed as absent when the masks are read. A folder without names uses those of
        the head, so that prediction needs none.

        Args:
            ids: `class_ids` of the data that the head was trained on.
            names: Their names.

        Raises:
            UserError: If `class_names` or `classes.yaml` name classes that the head does not know, or name them
                otherwise. Ids in masks that the head does not know are an `ImageError` when these are read.
        """
        expected = dict(zip(ids, names, strict=True))
        if self._own_names is not None:
            by_name = self.described is not None and bool(self.described.by_colour)
            check_expected(self.root, dict(zip(self._own_ids, self._own_names, strict=True)), expected, by_name)
        if self._expected != expected:
            self._expected = expected
            self._listed.clear()
            self._sources.clear()

    @property
    def _own_names(self) -> list[str] | None:
        """The names that the user gave."""
        return self.given_names if self.described is None else [entry.name for entry in self.described.classes]

    @cached_property
    def _own_ids(self) -> list[int]:
        if self.described is not None:
            return self.described.ids
        if self.given_names is not None:
            if self.given_ids is not None:
                return self.given_ids
            most = len(self.given_names) + len(self.ignored_ids)
            return [i for i in range(most) if i not in self.ignored_ids][: len(self.given_names)]
        masks = self.layout.mask_files(self.mask_ending)
        if not masks:
            ending = f" whose names end in {self.mask_ending!r} (mask_ending)" if self.mask_ending else ""
            elsewhere = self.layout.masks_elsewhere()
            there = self.layout.mask_folder("train")
            instead = f"{elsewhere}; rename it to {there} if it holds them, or" if elsewhere else "none;"
            labels = foreign_labels(self.root)
            raise ImageError(
                f"{self.root}: expected masks{ending} that name the classes, found "
                + (labels or f"{instead} give class_names or classes.yaml")
            )
        found = self._ids_in(masks)
        for mask, ids in zip(masks, found, strict=True):
            check_ids(ids, self.ignored_ids, mask)
        return classes_among(set().union(*found), self.ignored_ids, self.root)

    def setup(self, stage: str) -> None:
        """List the files; a fit that does not resume reports them."""
        if stage == "fit" and self.trainer is not None:
            report = Path(self.trainer.default_root_dir) / REPORT
            if not (self.resumes and report.exists()):
                self._tell(report)
        super().setup(stage)

    def read_predict(self) -> Source:
        """The images of `val`, of `train` without it, or all where nothing splits the folder; masks are not needed."""
        return self.files(self.root, self.layout.all_images("val" if self.layout.has("val") else "train"))

    def labelled_source(self) -> Source:
        """Every labelled image of all splits (`segment`); usable ones, if others are skipped."""
        parts = self.layout.all_labelled(self.mask_ending)
        source = Concat([self._paired(split, files) for split, files in parts.items()])
        return usable(source, labelled=True) if self.on_error == "skip" else source

    def read(self, split: Split) -> Files:
        masks = self.layout.mask_folder(split)
        if self.task == "pretrain":
            if is_folder(masks) and self.layout.masks is None:
                return self.files(self.root, self.layout.images(split))
            if self.layout.masks is None and (elsewhere := self.layout.masks_elsewhere()):
                warnings.warn(
                    f"{elsewhere}: expected masks in {masks}, found this folder; if it holds masks, rename it, or they "
                    "will be left out or even used as images",
                    stacklevel=1,  # attributed to this line, so that it is shown once for all splits
                )
            return self.files(self.root, self.layout.all_images(split))
        return self._paired(split, self.layout.labelled(split, self.mask_ending))

    def _paired(self, split: Split, files: list[Path]) -> Files:
        """Images with their masks."""
        masks = self.layout.mask_folder(split)
        if not is_folder(masks):
            elsewhere = self.layout.masks_elsewhere()
            found = f"{elsewhere}; rename it if it holds them" if elsewhere else foreign_labels(self.root) or "nothing"
            raise MissingFile(
                f"{masks}: expected a folder with a mask for each image of {self.layout.image_folder(split)}, "
                f"found {found}; without masks, only task: pretrain and predict work"
            )
        paired = pair_masks(
            files, self.layout.image_folder(split), masks, mask_ending=self.mask_ending, on_error=self.on_error
        )
        if self.described is not None and self.described.by_colour:
            return ColourFiles(self.root, files, paired, self._by_colour(), self.stretch)
        if self._expected is not None:
            self._compare(split, paired)
        classes = {i: c for c, i in enumerate(self.ids)}
        ignored = self.ignored_ids if self.described is None else (*self.ignored_ids, *self.described.ignored_ids)
        return self.files(self.root, files, paired, dict.fromkeys(ignored, self.ignore_index) | classes)

    def _by_colour(self) -> dict[Colour, int]:
        """Colour in the masks → class, in the order of `class_names`."""
        assert self.described is not None
        names = self.class_names
        return {
            entry.colour: self.ignore_index if entry.ignore else names.index(entry.name)
            for entry in self.described.entries
            if entry.colour is not None
        }

    def _compare(self, split: Split, masks: list[Path]) -> None:
        """Compare the ids in masks with the classes of a trained head, before any image is decoded."""
        assert self._expected is not None
        there = set()
        ignored = {*self.ignored_ids, *(self.described.ignored_ids if self.described else ())} - self._expected.keys()
        for mask, ids in zip(masks, self._ids_in(masks), strict=True):
            check_known(ids - ignored, self._expected, mask, self.ignored_ids)
            there |= ids
        absent = {i: name for i, name in self._expected.items() if i not in there}
        if absent:
            rank_zero_info(f"{self.root}: {split}: absent classes: {described(list(absent), list(absent.values()))}")

    def _ids_in(self, masks: list[Path]) -> list[set[int]]:
        with ThreadPoolExecutor(DECODERS) as threads:
            found = threads.map(self._ids_of, masks)
            return list(tqdm(found, "masks", len(masks), unit="file", delay=5, leave=False))

    def _ids_of(self, mask: Path) -> set[int]:
        try:
            return mask_ids(mask)
        except ImageError:
            if self.on_error == "raise":
                raise
            return set()  # reported and counted with its image, when that is skipped

    @rank_zero_only
    def _tell(self, path: Path) -> None:
        splits: list[Split] = ["train"]
        if self.task == "segment" and self.evaluate_on == "val":
            splits.append("val")
        files = {split: self.read(split) for split in splits}  # report a missing split before images are read
        names = self.class_names if self.task == "segment" else []
        summaries = [summarise(split, files[split], names) for split in splits]
        text = "\n".join([printable(f"{self.root}"), *summaries, *map(printable, self._left_out(files))])
        rank_zero_info(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text + "\n")

    def _left_out(self, files: Mapping[Split, Files]) -> list[str]:
        """Report lines on the files that no split uses."""
        used = [path for part in files.values() for paths in (part.images, part.masks or ()) for path in paths]
        masks = frozenset({self.layout.mask_folder("train"), self.layout.mask_folder("val"), self.root / "masks"})
        lines = []
        if "val" not in files and (held := self._held(used)):
            lines.append(f"held out for validation: {len(held)} images")
            used += held
        folders = {self.root: left_out(self.root, used, masks if self.task == "pretrain" else frozenset())}
        folders |= {Path(folder): left_out(Path(folder), list_images(Path(folder))) for folder in self.extra or ()}
        return [*lines, *(f"left out of {folder}: {kinds}" for folder, kinds in folders.items() if kinds)]

    def _held(self, used: Collection[Path]) -> list[Path]:
        """The unused validation images; none where a folder is too small, or has none."""
        try:
            return sorted({*self.layout.images("val")} - {*used}) if self.layout.has("val") else []
        except ImageError:
            return []
