"""Adapters: the few trainable parameters of a frozen backbone (docs/method.md, section 1).

UniAdapter and AdaptFormer wrap each block; LoRA and SLR reparametrise weights and can therefore be merged into them;
BitFit, LastBlocks and Full mark existing parameters. All implement `Adapter`, which takes a trunk (a timm ViT);
`Backbone` keeps track of its adapter.
"""

from src.backbones.adapters.adapter import Adapter, Report
from src.backbones.adapters.bottleneck import AdaptFormer, UniAdapter
from src.backbones.adapters.low_rank import SLR, LoRA
from src.backbones.adapters.selective import BitFit, Full, LastBlocks

__all__ = ["SLR", "AdaptFormer", "Adapter", "BitFit", "Full", "LastBlocks", "LoRA", "Report", "UniAdapter"]
