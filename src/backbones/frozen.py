"""Leave frozen tensors out of checkpoints.

Tensors that the backbone's weights can restore are not stored: a checkpoint of ViT-S with its optimiser takes a few MB,
and loading it onto other weights is noticed. Adapters are always stored, even if they do not train, so that overwriting
or removing their file later changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from src.backbones.adapters.selective import FrozenValues
from src.backbones.backbone import Backbone
from src.core.errors import UserError


def frozen_names(module: nn.Module) -> set[str]:
    """Names in `module.state_dict()` of the parameters that no backbone in the module trains, without adapters.

    A teacher's adapters do not require gradients either, but are its own, not frozen. A tensor is frozen if every
    backbone in the module (student's and teacher's) holds it without training it.
    """
    backbones = [child for child in module.modules() if isinstance(child, Backbone)]
    held = [{id(p) for p in backbone.parameters() if not p.requires_grad} for backbone in backbones]
    adapters = {id(backbone.get_parameter(name)) for backbone in backbones for name in backbone.adapter_names}
    frozen = set.intersection(*held) - adapters if held else set()
    return {name for name, p in module.named_parameters(remove_duplicate=False) if id(p) in frozen}


def frozen_buffers(module: nn.Module) -> list[str]:
    """Names in `module.named_buffers()` of the original values of marked parameters.

    They never change: modules list them in `_ddp_params_and_buffers_to_ignore`, so that DDP does not broadcast them at
    every step.
    """
    holders = [(name, child) for name, child in module.named_modules() if isinstance(child, FrozenValues)]
    return [name for prefix, holder in holders for name, _ in holder.named_buffers(prefix)]


def trainable_state(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a state dict that a checkpoint must hold."""
    frozen = frozen_names(module)
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def check_loaded_keys(module: nn.Module, state: Mapping[str, Tensor], source: str = "checkpoint") -> None:
    """Check that a checkpoint holds exactly the tensors that are not frozen, in the right shapes.

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
