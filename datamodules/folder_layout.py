"""Where the images and masks of one's own folder lie: split by folders, by lists, or not at all."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from datamodules.base import Split
from datamodules.images import ImageError, list_images
from datamodules.subsets import held_out
from datamodules.unusable_files import is_file, is_folder

NOT_IMAGES = frozenset({"masks"})


class FolderLayout:
    """Reads the layout of a folder; see `FolderDataModule`.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def base(self) -> Path:
        """The folder of all images."""
        return self.root / "images" if is_folder(self.root / "images") else self.root

    @property
    def has_lists(self) -> bool:
        """Whether files name the images of the splits."""
        return is_file(self.root / "train.txt")

    @property
    def has_split_folders(self) -> bool:
        """Whether folders hold the images of the splits."""
        return not self.has_lists and is_folder(self.base / "train")

    def has(self, split: Split) -> bool:
        """Whether the folder or the list of a split is there; both splits are where nothing splits the images."""
        if self.has_lists:
            return is_file(self.root / f"{split}.txt")
        return not self.has_split_folders or is_folder(self.image_folder(split))

    def image_folder(self, split: Split) -> Path:
        """The folder that image names of a split are relative to, when masks are looked for."""
        if not self.has_split_folders:
            return self.base
        parallel = self.root / split / "images"
        return parallel if is_folder(self.root / "train" / "images") else self.base / split

    def mask_folder(self, split: Split) -> Path:
        """The folder of the masks of a split, whether it is there or not."""
        if not self.has_split_folders:
            return self.root / "masks"
        within = is_folder(self.root / "train" / "images")
        return self.root / split / "masks" if within else self.root / "masks" / split

    def mask_files(self, ending: str) -> list[Path]:
        """All files in the folders of masks whose names, without suffix, have this ending; others are no masks."""
        folders = sorted({self.mask_folder("train"), self.mask_folder("val")})
        files = [path for folder in folders if is_folder(folder) for path in list_images(folder)]
        return [path for path in files if path.stem.endswith(ending)]

    def all_images(self, split: Split) -> list[Path]:
        """The images of a split; all of them where nothing splits them.

        Raises:
            FileNotFoundError: If the folder or the list of the split is missing.
        """
        if not self.has(split):
            missing = self.root / f"{split}.txt" if self.has_lists else self.image_folder(split)
            kind = "list of images beside train.txt" if self.has_lists else "folder of images beside those of train"
            raise FileNotFoundError(
                f"{missing}: expected a {kind}, found nothing; add it, or evaluate on a fifth of the training images "
                "with evaluate_on: holdout"
            )
        if self.has_lists:
            return self._of_list(self.root / f"{split}.txt")
        folder = self.image_folder(split)
        return list_images(folder, exclude=NOT_IMAGES if folder == self.root else frozenset())

    def images(self, split: Split) -> list[Path]:
        """The images of a split; where nothing splits them, a fixed fifth is `val`.

        Raises:
            FileNotFoundError: If a folder or a list is missing.
            ImageError: If there are too few images to split, or a list names what is not there.
        """
        files = self.all_images(split)
        if self.has_lists or self.has_split_folders:
            return files
        kept = set(held_out(len(files)))
        if not kept and split == "val":
            raise ImageError(
                f"{self.base}: expected 5 images or more to keep a fifth for validation, found {len(files)}"
            )
        return [path for i, path in enumerate(files) if (i in kept) == (split == "val")]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Image files by each way in which a list may name them."""
        named: dict[str, list[Path]] = {}
        for path in list_images(self.base, exclude=NOT_IMAGES if self.base == self.root else frozenset()):
            places = [path.relative_to(folder) for folder in {self.base, self.root}]
            for name in {name for place in places for name in (place.as_posix(), place.with_suffix("").as_posix())}:
                named.setdefault(name, []).append(path)
        return named

    def _of_list(self, file: Path) -> list[Path]:
        """The images that a list names, one a line: relative to the images or the root, with suffix or without."""
        images = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            found = self._by_name.get(line.strip(), [])
            if len(found) != 1:
                what = ", ".join(path.name for path in found) or "none"
                raise ImageError(
                    f"{file}, line {number}: expected the name of one image below {self.base}, found {what} "
                    f"called {line.strip()!r}; correct the line"
                )
            images.append(found[0])
        if not images:
            raise ImageError(f"{file}: expected the name of an image on each line, found none")
        return images
