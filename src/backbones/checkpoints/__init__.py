"""Load published ViT checkpoints exactly into timm models, or explain why not.

`reading` (any file format → named tensors) → `layouts` (find the ViT; plain names) → `families` (its method) →
`geometry` (its shape, and the named model's) → `fitting` (strict state dict) → `trunk` (the model).
"""

from src.backbones.checkpoints.hashing import weight_hash
from src.backbones.checkpoints.heads import projection_head_state
from src.backbones.checkpoints.loading import LoadedWeights, load_weights, read_weights
from src.backbones.checkpoints.trunk import build_trunk

__all__ = ["LoadedWeights", "build_trunk", "load_weights", "projection_head_state", "read_weights", "weight_hash"]
