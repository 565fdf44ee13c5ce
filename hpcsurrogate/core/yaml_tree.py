"""Strict YAML: text to plain values, remembering the line and column of every key and value.

Only the part of YAML 1.2 that an experiment needs is read: mappings, lists, text, numbers, `true`, `false`, `null`.
Duplicate keys, tags, anchors and aliases, deep nesting and second documents are refused.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hpcsurrogate.core.errors import ConfigError

MAX_DEPTH = 20
MAX_CHARACTERS = 1_000_000

Path = tuple[str | int, ...]

NULL = re.compile(r"~|null|")
BOOLEAN = re.compile(r"true|false")
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
# YAML 1.1, which PyYAML follows, reads 1e-3 as text because it has no dot; YAML 1.2 reads what everybody means.
FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass
class MarkedTree:
    """Plain values and where each was written.

    Attributes
    ----------
    content : dict, list or scalar
    places : dict    path of keys and indices -> "file:line:column" of the key (or of the list item)
    """

    content: Any = None
    places: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Return the place of `path`, or of its nearest ancestor that was written."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, "")


def read_tree(text: str, origin: str) -> MarkedTree:
    """Read one YAML document.

    Parameters
    ----------
    text : str
    origin : str    file name used in messages

    Returns
    -------
    MarkedTree    content None for an empty document

    Raises
    ------
    ConfigError    one line `origin:line:column: what` for everything this module's docstring refuses
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{origin}: longer than {MAX_CHARACTERS} characters; an experiment file is a page or two")
    try:
        _refuse_events(text, origin)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{_place(origin, mark)}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        # Characters that YAML forbids have a position but no mark.
        problem = str(error).splitlines()[0]
        raise ConfigError(f"{origin}: not valid YAML: {problem}; save the file as plain UTF-8 text") from None
    tree = MarkedTree()
    if node is not None:
        tree.places[()] = _place(origin, node.start_mark)
        tree.content = _build(node, (), tree, origin)
    return tree


def _place(origin: str, mark: yaml.Mark) -> str:
    return f"{origin}:{mark.line + 1}:{mark.column + 1}"


def _refuse_events(text: str, origin: str) -> None:
    """Refuse what could run code or blow up, while the text is still a flat stream: composing it would recurse."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = _place(origin, event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{place}: anchors (&) and aliases (*) are not allowed; write the value out")
        if getattr(event, "tag", None):
            raise ConfigError(f"{place}: tags (!) are not allowed; write a plain value instead of '{event.tag}'")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{place}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(node: yaml.Node, path: Path, tree: MarkedTree, origin: str) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, origin)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            tree.places[(*path, index)] = _place(origin, item.start_mark)
            items.append(_build(item, (*path, index), tree, origin))
        return items
    mapping = {}
    for key_node, value_node in node.value:
        place = _place(origin, key_node.start_mark)
        key = _key(key_node, place)
        if key in mapping:
            dotted = ".".join(str(part) for part in (*path, key))
            raise ConfigError(f"{place}: {dotted}: given twice, first at {tree.places[(*path, key)]}; remove one")
        tree.places[(*path, key)] = place
        mapping[key] = _build(value_node, (*path, key), tree, origin)
    return mapping


def _key(node: yaml.Node, place: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{place}: a key must be a word, not a list or a mapping")
    return node.value


def _scalar(node: yaml.ScalarNode, origin: str) -> Any:
    text = node.value
    if node.style is not None:  # quoted or block text stays text
        return text
    if NULL.fullmatch(text):
        return None
    if BOOLEAN.fullmatch(text):
        return text == "true"
    if INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    if FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?0[0-9]+", text):  # 010 is eight to some and ten to others
        number = float(text)
        if math.isinf(number):
            raise ConfigError(f"{_place(origin, node.start_mark)}: {text} is too large for a number")
        return number
    return text
