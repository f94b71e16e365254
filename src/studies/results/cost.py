"""Cost of a study's row: parameters, time and memory, from the files of its cells."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from src.core.errors import UserError
from src.core.json_files import NUMBER, damaged, read_json
from src.core.safetensors_header import count_values
from src.studies.run.estimate import clock

SPENT = {"seconds": NUMBER, "peak_memory_bytes": NUMBER}  # of a stage's provenance


class Cost(NamedTuple):
    """One row's cost, a seed; None where nothing of that kind was run or kept."""

    parameters: int | None  # that adaptation added or changed
    pretraining: float | None  # seconds
    evaluation: float | None  # seconds, of all columns
    memory: int | None  # bytes, the highest peak of a stage

    def sentence(self) -> str:
        """The cost in words, without what is not known."""
        return ", ".join(f"{text} {name}" for name, text in self.texts().items() if text != "–")

    def texts(self) -> dict[str, str]:
        """Each part by its name, `–` where it is not known."""
        return {
            "trained parameters": "–" if self.parameters is None else f"{self.parameters:,}".replace(",", " "),
            "of pre-training a seed": "–" if self.pretraining is None else clock(self.pretraining),
            "of evaluation a seed": "–" if self.evaluation is None else clock(self.evaluation),
            "of memory": "–" if self.memory is None else f"{self.memory / 2**30:.1f} GiB",
        }


def cost(pretrainings: Sequence[Path], evaluations: Sequence[Path], seeds: int) -> Cost:
    """The cost of a row.

    Args:
        pretrainings: cell folders of its pre-trainings, each once.
        evaluations: cell folders of its evaluations, each once.
        seeds: that the evaluations belong to.
    """
    trained, tested = provenances(pretrainings), provenances(evaluations)
    counts = [count for folder in pretrainings if (count := adapter_parameters(folder)) is not None]
    return Cost(
        parameters=counts[0] if counts else None,
        pretraining=fmean(item["seconds"] for item in trained) if trained else None,
        evaluation=sum(item["seconds"] for item in tested) / seeds if tested else None,
        memory=max((item["peak_memory_bytes"] for item in [*trained, *tested]), default=None),
    )


def provenances(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Only known values."""
    found = [read_json(folder / "provenance.json", SPENT) for folder in folders]
    return [provenance for provenance in found if provenance is not None]


def adapter_parameters(folder: Path) -> int | None:
    """Count the values in a cell's `adapter.safetensors` by its header; None where there is no such file."""
    path = folder / "adapter.safetensors"
    try:
        return count_values(path)
    except FileNotFoundError:
        return None
    except UserError as error:
        damaged(path, str(error).removeprefix(f"{path}: "))
        return None
