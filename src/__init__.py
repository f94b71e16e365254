"""GLARE: continual self-supervised pre-training for segmentation.

The public names are imported when they are first used, so that ``python -m src --help`` never waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.backbones.backbone import Backbone, load_adapter, load_backbone
    from src.backbones.features import Features
    from src.commands.adapt.python import adapt
    from src.pretraining import ContinualPretraining
    from src.segmentation import SemanticSegmentation

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "ContinualPretraining",
    "Features",
    "SemanticSegmentation",
    "adapt",
    "load_adapter",
    "load_backbone",
]

_HOME = {
    "Backbone": "src.backbones.backbone",
    "ContinualPretraining": "src.pretraining",
    "Features": "src.backbones.features",
    "SemanticSegmentation": "src.segmentation",
    "adapt": "src.commands.adapt.python",
    "load_adapter": "src.backbones.backbone",
    "load_backbone": "src.backbones.backbone",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'src' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
