"""Every published layout by its name."""

from collections.abc import Callable

from tests.backbones.checkpoints.dinov3_layouts import dinov3, dinov3_without_bias, timm_dinov3
from tests.backbones.checkpoints.hugging_face_layouts import hf_dinov2, hf_dinov3, hf_mae, hf_vit
from tests.backbones.checkpoints.mae_moco_layouts import mae, moco
from tests.backbones.checkpoints.published_layouts import (
    Published,
    dino,
    dinov2,
    dinov2_giant,
    dinov2_registers,
    ibot,
    own_checkpoint,
    timm_classifier,
    timm_dinov2_registers,
    udi,
)

EVERY: dict[str, Callable[[], Published]] = {
    "DINO": dino,
    "iBOT": ibot,
    "UDI full": udi,
    "UDI backbone": lambda: udi("backbone"),
    "UDI wrapper": lambda: udi("wrapper"),
    "DINOv2": dinov2,
    "DINOv2 in training": lambda: dinov2(training=True),
    "DINOv2 registers": dinov2_registers,
    "DINOv2 giant": dinov2_giant,
    "DINOv2 registers, timm": timm_dinov2_registers,
    "DINOv2, Hugging Face": hf_dinov2,
    "DINOv2 registers, Hugging Face": lambda: hf_dinov2(dinov2_registers),
    "DINOv2 giant, Hugging Face": lambda: hf_dinov2(dinov2_giant),
    "DINOv3": dinov3,
    "DINOv3 plus": lambda: dinov3("apart"),
    "DINOv3 without bias": dinov3_without_bias,
    "DINOv3, timm": timm_dinov3,
    "DINOv3, Hugging Face": hf_dinov3,
    "DINOv3 plus, Hugging Face": lambda: hf_dinov3("apart"),
    "MAE": mae,
    "MAE encoder": lambda: mae(decoder=False),
    "MAE, Hugging Face": hf_mae,
    "MoCo v3": moco,
    "MoCo v3 encoder": lambda: moco(bare=True),
    "timm": timm_classifier,
    "ViT, Hugging Face": hf_vit,
    "own": own_checkpoint,
}
