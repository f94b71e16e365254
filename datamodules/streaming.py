"""Pre-training on streamed images, for sets larger than a disk.

    python -m datamodules.streaming FOLDER TARGET      # once: any folder of images → chunks, locally or at s3://…

Chunks are litdata's (extra `streaming`); an image's file is kept byte for byte. The order is shuffled by chunk
and within chunks, which makes streaming fast; views depend on (seed, epoch, image) alone, as everywhere.

Credentials and the endpoint of an object store come from the environment or from its client's own files
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ~/.aws): they are not arguments, so that no yaml, log or
checkpoint can hold them. Lost connections are retried by the client.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.batches import ViewSample, collate_views
from datamodules.reading.errors import ImageError
from datamodules.reading.images import read_image
from datamodules.reading.listing import list_images
from datamodules.sampling.splits import check_max_images, fixed_order
from datamodules.shared_memory import fitting_workers
from datamodules.transforms.multi_crop import GLOBAL_AREA, MultiViewCrop
from datamodules.views import Crops
from src.core.distributed import share_of_batch
from src.core.errors import MissingFile, UserError, one_message

try:
    import litdata
    from litdata.streaming import downloader
except ImportError as error:
    raise ImportError("datamodules.streaming needs litdata: pip install 'glare-lightning[streaming]'") from error


def allow_plain_http() -> None:
    """Allow litdata's faster client to use a store without TLS, if AWS_ENDPOINT_URL names one.

    Its default client does so by itself; for the faster one litdata has no option. Releases without it need none.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = getattr(downloader, "_OBSTORE_CLIENT_OPTIONS", None)
    if endpoint.startswith("http://") and isinstance(options, dict):
        options["allow_http"] = True


allow_plain_http()  # in processes that litdata starts as well

_BLANK = np.zeros((8, 8, 3), np.uint8)  # its views are as large as those of any image


class StreamingDataModule(LightningDataModule):
    """Unlabelled views of images in chunks, for pre-training.

    Several processes share the chunks; the last, incomplete batch of an epoch is dropped. A
    resumed fit continues with the next image, within an epoch if need be: the loader's state is in checkpoints.

    Args:
        chunks: Folder or address (s3://, gs://, …; local:FOLDER for a slow shared disk) that `write_chunks` filled.
        batch_size: Images per batch, over all processes together.
        size: Side of the global views.
        local_views: Number of local views.
        local_size: Side of the local views.
        global_crops_scale: Least and largest share of an image's area that a global view covers.
        num_workers: Loader processes.
        seed: Seed of order and views.
        cache_folder: Folder that caches chunks from an address; None for litdata's default.
        cache_bytes: Size limit of that cache; the oldest chunks are removed first.
        max_images: Images to use at most: a fixed draw that never depends on a run's seed, in which 10 images are a
            subset of 30, and the same as from the folder that was packed; all if None.

    Raises:
        UserError: If the address holds credentials, or `max_images` is below 1.
    """

    def __init__(
        self,
        chunks: str,
        batch_size: int = 16,
        size: int = 224,
        local_views: int = 0,
        local_size: int = 96,
        num_workers: int = 2,
        seed: int = 0,
        cache_folder: str | None = None,
        cache_bytes: str = "25GB",
        global_crops_scale: tuple[float, float] = GLOBAL_AREA,
        max_images: int | None = None,
    ) -> None:
        super().__init__()
        check_address(chunks)
        check_max_images(max_images)
        allow_plain_http()
        self.chunks = chunks
        self.batch_size = batch_size
        self.crop = MultiViewCrop(size, local_views, local_size, seed, global_crops_scale=global_crops_scale)
        self.clean_crop = MultiViewCrop(size, seed=seed, photometric=False, global_crops_scale=global_crops_scale)
        self.num_workers = num_workers
        self.seed = seed
        self.cache_folder = cache_folder
        self.cache_bytes = cache_bytes
        self.max_images = max_images

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of `Crops`.

        Raises:
            MissingFile: If a local folder has no chunks.
            UserError: If a process would have no batch.
        """
        return self._loader(self.crop)

    def clean_views(self, images: int) -> Iterable[Crops]:
        """Two views of each of the first `images` images of this process, without colour augmentation."""
        return itertools.islice(self._loader(self.clean_crop), math.ceil(images / share_of_batch(self.batch_size)))

    def _loader(self, crop: MultiViewCrop) -> DataLoader[Any]:
        if ":" not in self.chunks.split("/")[0] and not Path(self.chunks, "index.json").is_file():
            raise MissingFile(
                f"{self.chunks}: expected chunks with an index.json, found none; "
                "python -m datamodules.streaming FOLDER TARGET writes them"
            )
        views = self._views()
        views.crop = crop
        batch = share_of_batch(self.batch_size)
        if len(views) < batch:  # those of this process
            raise UserError(
                f"{self.chunks}: expected enough images for a batch of {batch} in each process, found {len(views)} "
                "per process; lower batch_size"
            )
        loader: DataLoader[Any] = litdata.StreamingDataLoader(
            views,
            batch_size=batch,
            num_workers=fitting_workers(lambda: crop(_BLANK, 0, 0), batch, self.num_workers),
            collate_fn=collate_views,
            pin_memory=torch.cuda.is_available(),
        )
        return loader

    def _views(self) -> StreamedViews:
        """The images of all chunks, or the first `max_images`, which `write_chunks` put there in a fixed order."""
        make = partial(
            StreamedViews,
            input_dir=self.chunks,
            cache_dir=self.cache_folder,
            drop_last=True,
            seed=self.seed,
            max_cache_size=self.cache_bytes,
        )
        views = make(shuffle=True)
        packed = sum(end - start for start, end in views.region_of_interest)
        if self.max_images is None or self.max_images >= packed:
            return views
        # litdata shuffles before it takes a share, which is rounded down
        views = make(shuffle=False, subsample=(self.max_images + 0.5) / packed)
        views.shuffle = True
        return views


class StreamedViews(litdata.StreamingDataset):
    """Views of the images of some chunks.

    Attributes:
        crop: Cuts the views.
    """

    crop: MultiViewCrop

    def __getitem__(self, index: Any) -> ViewSample:
        item = super().__getitem__(index)
        epoch = self.current_epoch - 1  # litdata counts from 1
        image = _decoded(item["name"], item["file"])
        return ViewSample(*self.crop(image, epoch, item["index"]), sample=item["index"], epoch=epoch)

    def _validate_state_dict(self) -> None:
        """Also resume with the cache in another folder, as on another machine."""
        state = self._state_dict
        if state is not None and state["input_dir_url"] and state["input_dir_url"] == self.input_dir.url:
            state |= {"input_dir_path": self.input_dir.path, "cache_dir_path": self.cache_dir.path}
        super()._validate_state_dict()


def check_address(chunks: str) -> None:
    """Refuse an address that holds credentials, which would appear in every configuration and log.

    Raises:
        UserError: Without repeating them.
    """
    address = urlsplit(chunks)
    # a bucket's name has neither character; a secret may hold a slash, at which the parsed bucket name then ends
    if address.scheme and (set(":@") & set(address.netloc) or address.query):
        raise UserError(
            f"{address.scheme}://…: expected an address without credentials, found some; put them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or into ~/.aws/credentials"
        )


def write_chunks(folder: Path, target: str, chunk_bytes: str = "64MB", num_workers: int = 1) -> int:
    """Pack the images of a folder, found recursively, into chunks, in the order in which `max_images` draws them.

    Args:
        folder: Folder of images.
        target: Folder or address of the chunks.
        chunk_bytes: Size of a chunk; a reader holds a few of them.
        num_workers: Processes.

    Returns:
        The number of images.

    Raises:
        MissingFile: If there is no such folder.
        ImageError: If it holds no image.
        UserError: If the target holds chunks already, or credentials.
    """
    check_address(target)
    allow_plain_http()
    files = list_images(folder)
    if Path(target, "index.json").exists():
        raise UserError(
            f"{target}: expected a folder without chunks, found an index.json; remove it or give another folder"
        )
    inputs = [(i, str(files[i])) for i in fixed_order(len(files))]
    method = multiprocessing.get_start_method()
    try:
        litdata.optimize(partial(_packed, folder), inputs, target, chunk_bytes=chunk_bytes, num_workers=num_workers)
    finally:
        multiprocessing.set_start_method(method, force=True)  # litdata sets it for the whole process
    return len(files)


def _packed(folder: Path, item: tuple[int, str]) -> dict[str, Any]:
    index, file = item
    return {"index": index, "name": Path(file).relative_to(folder).as_posix(), "file": Path(file).read_bytes()}


def _decoded(name: str, content: bytes) -> NDArray[np.uint8]:
    """Read an image as from a folder: the decoders need a file, here one in memory."""
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
        file.write(content)
        file.flush()
        try:
            return read_image(Path(file.name))
        except ImageError as error:
            raise ImageError(str(error).replace(file.name, name)) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="images, found recursively")
    parser.add_argument("target", metavar="TARGET", help="folder or address of the chunks")
    parser.add_argument("--chunk-bytes", default="64MB", help="size of a chunk (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    options = parser.parse_args(arguments)
    count = write_chunks(options.folder, options.target, options.chunk_bytes, options.workers)
    print(f"{count:,} images of {options.folder} packed into {options.target}")


if __name__ == "__main__":
    with one_message() as outcome:
        main()
    sys.exit(outcome.code)
