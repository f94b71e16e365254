"""Adapters: the few parameters that learn while the backbone stays as it is (method, section 1).

UniAdapter and AdaptFormer wrap each block; LoRA and SLR reparametrise weights and can therefore be merged into them;
BitFit, LastBlocks and Full mark parameters that are already there. All answer `AdapterKind`.
"""

from src.models.adapters.kind import AdapterKind, Report
from src.models.adapters.marking import BitFit, Full, LastBlocks
from src.models.adapters.reparametrising import SLR, LoRA
from src.models.adapters.wrapping import AdaptFormer, UniAdapter

__all__ = ["SLR", "AdaptFormer", "AdapterKind", "BitFit", "Full", "LastBlocks", "LoRA", "Report", "UniAdapter"]
