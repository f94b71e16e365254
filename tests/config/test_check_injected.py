"""The check of classes against the types of their arguments, without jsonargparse, whose own differs by version."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from src.config.injection import check_import, check_injected
from src.core.errors import CommandLineError


class Takes:
    """Arguments of every kind.

    Args:
        module: a class.
        factory: something that makes one.
        several: in containers.
        anything: of no type.
        function: of no class.
    """

    def __init__(
        self,
        module: LightningModule | str | None = None,
        factory: Callable[..., LightningModule] = LightningModule,
        several: dict[str, list[LightningModule]] | None = None,
        anything: Any = None,
        function: Callable = print,
    ) -> None: ...


class TestCheck:
    GOOD = Namespace(class_path="lightning.pytorch.LightningModule", init_args=Namespace())
    BAD = (
        Namespace(class_path="functools.partial", init_args=Namespace(func="os.system")),
        Namespace(class_path="os.system", init_args=Namespace(command="true")),
        {"class_path": "torch.nn.Linear"},
        print,
        partial,
        sys,
    )

    @staticmethod
    def check(**arguments: Any) -> Namespace:
        config = Namespace(group=Namespace(**arguments))
        check_injected(config, {}, {"group": Takes})
        return config.group

    def test_a_subclass_passes_unchanged_where_its_base_is_expected(self) -> None:
        for arguments in (
            {"module": self.GOOD, "factory": self.GOOD, "several": {"a": [self.GOOD]}, "function": print},
            {"module": "a name", "factory": LightningModule, "anything": {"a": [1, "b.c"]}},
        ):
            assert self.check(**deepcopy(arguments)) == Namespace(**arguments)

    @pytest.mark.parametrize("bad", BAD, ids=str)
    def test_nothing_else_passes_at_any_depth(self, bad: Any) -> None:
        for arguments in (
            {"module": bad},
            {"factory": bad},
            {"several": {"a": [TestCheck.GOOD, bad]}},
            {"anything": bad},
            {"anything": [{"a": bad}]},
            {"module": Namespace(class_path="lightning.pytorch.LightningModule", dict_kwargs={"a": bad})},
        ):
            with pytest.raises(CommandLineError, match="group"):
                self.check(**arguments)

    def test_a_type_without_a_class_takes_none(self) -> None:
        for name in ("anything", "function"):
            with pytest.raises(CommandLineError, match="takes no class"):
                self.check(**{name: self.GOOD})

    def test_top_level_keys_have_their_own_bases(self) -> None:
        check_injected(Namespace(model=self.GOOD), {"model": LightningModule}, {})
        for config in (Namespace(model=self.GOOD), Namespace(trainer=Namespace(logger=self.GOOD))):
            with pytest.raises(CommandLineError, match="LightningModule"):
                check_injected(config, {"model": Trainer}, {"trainer": Trainer})


def test_a_module_is_not_imported_to_say_no() -> None:
    with pytest.raises(ImportError, match="standard library"):
        check_import("antigravity.webbrowser")
    with pytest.raises(ModuleNotFoundError):
        check_import("no_such_package.Thing")
    check_import("src.segmentation.decoders.linear.LinearDecoder")
