"""Recognise other tools' formats and suggest the conversion."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

_LORA = re.compile(r"(?:^|\.)(?:base_layer|lora_[AB]|lora_magnitude_vector|lora_embedding_[AB])(?:\.|$)")
_FLAT = re.compile(r"(?:^|\.)_?flat_param(?:_\d+)?$")
_JAX = re.compile(r"^(?:params/)?(?:Transformer|embedding)/")


def foreign_archive(path: Path, entries: Sequence[str]) -> str | None:
    """Message that identifies another tool's zip file; None for one that torch.save may have written.

    Args:
        path: The file.
        entries: Names of its entries.
    """
    file = shlex.quote(str(path))
    if any(name.endswith(".npy") for name in entries):
        if any(map(_JAX.match, entries)):
            convert = (
                "import sys, timm, torch; m = timm.create_model('MODEL', num_classes=0); "
                "m.load_pretrained(sys.argv[1]); torch.save(m.state_dict(), 'converted.pth')"
            )
        else:
            convert = (
                "import sys, numpy, torch; torch.save({k.replace('/', '.'): torch.from_numpy(v) for k, v in "
                "numpy.load(sys.argv[1]).items()}, 'converted.pth')"
            )
        return f'{path} is a NumPy archive (.npz); convert it: python -c "{convert}" {file}'
    tops = {name.partition("/")[2] for name in entries}
    if "constants.pkl" in tops and any(name.startswith("code/") for name in tops):
        return (
            f"{path} is a TorchScript file, whose tensors come with code; if you trust its source, convert it: python "
            "-c \"import sys, torch; torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), "
            f"'converted.pth')\" {file}"
        )
    if any(name.endswith((".data/extern_modules", "archive_format")) or "exported_program" in name for name in entries):
        return (
            f"{path} is a program of torch.export or torch.package, not plain weights; if it is torch.export's, "
            "convert "
            'it: python -c "import sys, torch; torch.save(dict(torch.export.load(sys.argv[1]).state_dict), '
            f"'converted.pth')\" {file}"
        )
    return None


def foreign_folder(folder: Path) -> str | None:
    """Message that identifies a folder that another tool wrote as a checkpoint in parts, or None."""
    name = shlex.quote(str(folder))
    if (folder / ".metadata").is_file() or any(folder.glob("*.distcp")):
        return (
            f"{folder} is a checkpoint of torch.distributed (DCP: .metadata and *.distcp); convert it with "
            f"dcp_to_torch_save: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {name} converted.pth"
        )
    whole = sorted(folder.glob("*/mp_rank_*_model_states.pt")) + sorted(folder.glob("mp_rank_*_model_states.pt"))
    shards = [*folder.glob("*/*zero_pp_rank_*"), *folder.glob("*zero_pp_rank_*")]
    if (folder / "zero_to_fp32.py").is_file() or whole or shards:
        script = "zero_to_fp32.py" if (folder / "zero_to_fp32.py").is_file() else ""
        run = shlex.quote(str(folder / script)) if script else "-m deepspeed.utils.zero_to_fp32"
        alone = f", or give {whole[0]}, which holds the complete weights" if whole and not shards else ""
        return f"{folder} is a DeepSpeed folder; convert it with zero_to_fp32.py: python {run} {name} converted{alone}"
    if (folder / "adapter_config.json").is_file():
        return f"{folder} is an adapter in PEFT's format: give it as adapter:, and its backbone's weights as weights:"
    return None


def foreign_names(path: str, names: Iterable[str]) -> str | None:
    """Message that identifies shards or unmerged adapters by their tensors' names, or None."""
    names = list(names)
    flat = next((name for name in names if _FLAT.search(name)), None)
    if flat is not None:
        return (
            f"{path} holds flat FSDP shards ({flat}), of which one rank's file is only a part; use the complete "
            "weights that the training wrote (DINOv2: eval/*/teacher_checkpoint.pth), or save them again with "
            "FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT)"
        )
    lora = next((name for name in names if _LORA.search(name)), None)
    if lora is not None:
        return (
            f"{path} holds an unmerged LoRA of PEFT ({lora}); merge it in the program that loads the model: "
            "torch.save(model.merge_and_unload().state_dict(), 'converted.pth')"
        )
    return None
