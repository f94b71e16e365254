"""Adapted backbones for other programs: ONNX, torch.export, timm and Hugging Face."""

from src.backbones.export.graph import to_onnx, to_torch_export
from src.backbones.export.hugging_face import to_hugging_face
from src.backbones.export.timm_folder import to_timm

__all__ = ["to_hugging_face", "to_onnx", "to_timm", "to_torch_export"]
