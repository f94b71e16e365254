"""``python -m src export RUN --to KIND --out DIR``: an adapted backbone for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from src.backbones.adapted import adapted_backbone
from src.backbones.backbone import Backbone
from src.backbones.export import to_hugging_face, to_onnx, to_timm, to_torch_export
from src.backbones.export.timm_folder import creation
from src.commands import parsers
from src.config.prerequisites import check_writable
from src.core.errors import CommandLineError


def main(arguments: Sequence[str]) -> None:
    """Export an adapted backbone.

    Raises:
        CommandLineError: If an option is wrong.
        UserError: If there is no adapter, it does not fit the target, or the exported features differ.
    """
    options = parsers.export().parse_args(list(arguments))
    if options.dynamic and options.to in ("timm", "hf"):
        raise CommandLineError(f"--dynamic: expected --to onnx or torch-export; {options.to} takes any size anyway")
    check_writable(options.out, "--out")
    backbone = adapted_backbone(options.run, options.weights, options.trust)
    print(EXPORTS[options.to](backbone, options.out, options.size))


def onnx(backbone: Backbone, folder: Path, size: int | None) -> str:
    """Write ONNX; return instructions for its use."""
    path = to_onnx(backbone, folder, size)
    return (
        f"{path} ({path.stat().st_size / 1e6:.1f} MB), compared in onnxruntime. To use it:\n\n"
        "    import onnxruntime\n"
        f"    session = onnxruntime.InferenceSession({str(path)!r})\n"
        '    cls, patches = session.run(["cls", "patches"], {"images": images})  # [B, 3, H, W], RGB in [0, 1]'
    )


def torch_export(backbone: Backbone, folder: Path, size: int | None) -> str:
    """Write a torch.export program; return instructions for its use."""
    path = to_torch_export(backbone, folder, size)
    return (
        f"{path} ({path.stat().st_size / 1e6:.1f} MB), compared. To use it, with torch alone:\n\n"
        "    import torch\n"
        f"    backbone = torch.export.load({str(path)!r}).module()\n"
        "    cls, patches = backbone(images)  # [B, 3, H, W], RGB in [0, 1]"
    )


def timm(backbone: Backbone, folder: Path, size: int | None) -> str:
    """Write a timm folder; return instructions for its use."""
    path = to_timm(backbone, folder, size)
    return f"{path}, compared. To use it:\n\n    import timm\n    model = {creation(backbone, path, size)}"


def hugging_face(backbone: Backbone, folder: Path, size: int | None) -> str:
    """Write a Hugging Face folder; return instructions for its use."""
    path = to_hugging_face(backbone, folder, size)
    configuration = json.loads((path / "config.json").read_text(encoding="utf-8"))
    vit = configuration["model_type"] == "vit"
    plain = ", add_pooling_layer=False" if vit else ""  # never trained
    others = "others, by interpolate_pos_encoding=True," if vit else "others"  # required by a ViT
    side = configuration["image_size"]
    return (
        f"{path}. To use it:\n\n    from transformers import AutoModel\n"
        f"    model = AutoModel.from_pretrained({str(path)!r}{plain})\n\n"
        f"Features are equal at {side}×{side} px; at {others} transformers resamples position embeddings differently "
        f"(--size)"
    )


EXPORTS = {"onnx": onnx, "timm": timm, "hf": hugging_face, "torch-export": torch_export}
