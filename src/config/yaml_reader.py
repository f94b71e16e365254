"""The one YAML reader: strict files in, plain values out."""

import re
from pathlib import Path
from typing import Any

import yaml

from src.config.composition import Config, compose
from src.config.experiment_files import located
from src.config.renamed import current_config
from src.core.atomic_files import write_text
from src.core.errors import MissingFile, UserError

LARGEST = 100_000  # values in a file after expanding aliases
_TEXT_ONLY = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")


class Loader(yaml.SafeLoader):
    """YAML 1.1 with numbers such as `5e-4`, dates as text, and neither duplicate keys nor tags.

    An anchor may be used again, but not within itself.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"expected a plain value, found the tag {event.tag}; remove it", event.start_mark
            )
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected each key once, found {key.value!r} again; keep one of them", key.start_mark
                )
            seen.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        node.value = list({(key.tag, str(key.value)): (key, value) for key, value in node.value}.values())

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > LARGEST:
            raise yaml.constructor.ConstructorError(
                None, None, f"expected at most {LARGEST:,} values after expanding aliases", node.start_mark
            )
        return node


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_ONLY]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN)$"
    ),
    list("-+0123456789."),
)


def parse(text: str, name: str) -> Any:
    """Read a YAML document.

    Args:
        text: The document.
        name: Name of its file, for messages.

    Raises:
        UserError: With the file and the line.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{name} is not valid yaml{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid yaml: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise UserError(f"{name} is not valid yaml: expected values nested less deeply") from None
    except ValueError as error:  # from a constructor, such as for an integer with too many digits
        raise UserError(f"{name} is not valid yaml: {error}") from error


def load(path: Path) -> Any:
    """Read the value in a YAML file.

    Raises:
        MissingFile: If the file does not exist.
        UserError: If it is not UTF-8 text or not YAML.
    """
    if path.is_dir():
        raise MissingFile(f"{path}: a folder, expected a YAML file. Configurations are in experiments/")
    if not path.is_file():
        raise MissingFile(f"{path}: no such file. Configurations are in experiments/; python -m src list shows them")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, found the byte {error.object[error.start]:#04x}") from error


def read(path: Path) -> Config:
    """Read a configuration with the files that it extends; old class paths and keys are translated.

    A relative path is looked up in the current folder, then in the installed package.

    Raises:
        MissingFile: If it, or a file that it extends, does not exist.
        UserError: If one of them is not YAML or not a mapping, or if they extend each other in a cycle.
    """
    return compose(located(path), _mapping)


def _mapping(path: Path) -> Config:
    content = load(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a mapping of keys to values, found {type(content).__name__}")
    return dict(current_config(content))


def write(path: Path, config: Config) -> None:
    """Write a mapping as YAML, keeping the order of keys."""
    write_text(path, yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def quoted(config: Config) -> str:
    """Return a mapping as YAML with every text in quotes, so that other YAML readers agree."""
    return yaml.dump(config, Dumper=_QuotingDumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quote text that `Loader` would read as another type."""


class _QuotingDumper(yaml.SafeDumper):
    """Quote every text."""


_Dumper.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers
_QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values below a node, counting an alias at each use."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise yaml.constructor.ConstructorError(
                None, None, "expected an anchor that is not used within itself", node.start_mark
            )
        return known[id(node)]
    known[id(node)] = 0
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    below = 0 if isinstance(node, yaml.ScalarNode) else sum(_size(child, known) for child in children)
    known[id(node)] = 1 + below
    return known[id(node)]
