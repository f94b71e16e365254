"""Checkpoints without frozen tensors.

What a backbone's weights can bring back is never stored again: a checkpoint of ViT-S with its optimiser stays at a few
MB, and loading it onto other weights cannot go unnoticed. Adapters are always stored, also where they do not train: a
file that is overwritten or left out later changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from src.backbones.adapters.selective import FrozenValues
from src.backbones.backbone import Backbone
from src.core.errors import UserError


def frozen_names(module: nn.Module) -> set[str]:
    """Names in `module.state_dict()` of the parameters that no backbone in the module trains, adapters left out.

    A teacher's adapters do not require gradients either, but are not frozen: they are its own. Frozen is what every
    backbone in the module (student's and teacher's) holds without training it.
    """
    backbones = [child for child in module.modules() if isinstance(child, Backbone)]
    held = [{id(p) for p in backbone.parameters() if not p.requires_grad} for backbone in backbones]
    adapters = {id(backbone.get_parameter(name)) for backbone in backbones for name in backbone.adapter_names}
    frozen = set.intersection(*held) - adapters if held else set()
    return {name for name, p in module.named_parameters(remove_duplicate=False) if id(p) in frozen}


def frozen_buffers(module: nn.Module) -> list[str]:
    """Names in `module.named_buffers()` of what marked parameters were before they trained.

    They never change: a module gives them as `_ddp_params_and_buffers_to_ignore`, where DDP reads what it need not
    broadcast at every step.
    """
    holders = [(name, child) for name, child in module.named_modules() if isinstance(child, FrozenValues)]
    return [name for prefix, holder in holders for name, _ in holder.named_buffers(prefix)]


def trainable_state(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that a checkpoint must hold."""
    frozen = frozen_names(module)
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def check_loaded_keys(module: nn.Module, state: Mapping[str, Tensor], source: str = "checkpoint") -> None:
    """Make sure that a checkpoint holds exactly what is not frozen, in the right shapes.

    Raises:
        UserError: Naming the keys that are missing, unexpected or of another shape.
    """
    expected = trainable_state(module, module.state_dict())
    problems = [f"missing {name}" for name in expected.keys() - state.keys()]
    problems += [f"unexpected {name}" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(expected[name].shape)} here"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if problems:
        listing = "; ".join(sorted(problems)[:6]) + (f"; and {len(problems) - 6} more" if len(problems) > 6 else "")
        raise UserError(
            f"the {source} does not fit this configuration: {listing}. Use the config.yaml in its run "
            "folder, or start without --ckpt_path"
        )
