"""From what pydantic found wrong to one line a user can act on: file, line, column, key, what, and "did you mean"."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from hpcsurrogate.core.yaml_tree import MarkedTree, Path

PLAIN_WORDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}


def first_problem(error: ValidationError, tree: MarkedTree, model: type[BaseModel]) -> str:
    """Describe the first problem of a file, and how many more there are.

    Parameters
    ----------
    error : ValidationError    raised by `model` for the content of `tree`
    tree : MarkedTree          the values with their places
    model : type               the pydantic model of the whole file

    Returns
    -------
    str    `file:line:column: key: what; did you mean ...?`, one line. Misspelt keys come before the missing keys
           that they cause (tests/unit/core/test_yaml_loader.py)
    """
    schema = model.model_json_schema()
    problems: dict[Path, list[dict[str, Any]]] = {}
    for problem in error.errors(include_url=False):
        problems.setdefault(_data_path(problem, tree.content), []).append(problem)
    rank = {"extra_forbidden": 0, "missing": 2}
    path, found = min(problems.items(), key=lambda item: rank.get(item[1][0]["type"], 1))
    what = " or ".join(dict.fromkeys(_describe(problem, path, tree, schema) for problem in found))
    dotted = ".".join(str(part) for part in path)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    written = (*path, "kind") if found[0]["type"] == "union_tag_invalid" else path
    return f"{tree.place(written)}: {dotted + ': ' if dotted else ''}{what}{more}"


def _data_path(problem: dict[str, Any], content: Any) -> Path:
    """Drop from pydantic's location what is no key of the file: names of variants and of alternative types."""
    path: list[str | int] = []
    location: Path = problem["loc"]
    for index, part in enumerate(location):
        known = range(len(content)) if isinstance(content, list) else content
        if isinstance(content, (dict, list)) and part in known:
            content = content[part]
        elif problem["type"] == "missing" and isinstance(content, dict) and index == len(location) - 1:
            pass
        else:
            continue
        path.append(part)
    return tuple(path)


def _describe(problem: dict[str, Any], path: Path, tree: MarkedTree, schema: dict[str, Any]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(_schema_at(path[:-1], tree.content, schema).get("properties", {}))
        return f"unknown key{_did_you_mean(str(path[-1]), known) or '; known here are ' + ', '.join(known)}"
    if kind == "missing":
        return "required key is missing; add it"
    if kind == "union_tag_not_found":
        kinds = list(_schema_at(path, tree.content, schema, follow_kind=False)["discriminator"]["mapping"])
        return f"`kind` is missing; add one of {', '.join(kinds)}"
    if kind == "union_tag_invalid":
        kinds = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
        return f"kind {context['tag']!r} is none of {', '.join(kinds)}{_did_you_mean(context['tag'], kinds)}"
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in context["expected"].replace(" or ", ", ").split(", ")]
        return f"must be {context['expected']}, not {_show(value)}{_did_you_mean(str(value), choices)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}, not {_show(value)}"
    if kind in ("too_short", "too_long"):
        limit = f"at least {context.get('min_length')}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"must have {limit} items, not {context['actual_length']}"
    if kind in PLAIN_WORDS:
        return f"must be {PLAIN_WORDS[kind]}, not {_show(value)}{_boolean_hint(kind, value)}"
    rule = problem["msg"].replace("Input should", "must").replace("an object", "a mapping of keys")
    return f"{rule}, not {_show(value)}"


def _show(value: Any) -> str:
    names = {True: "true", False: "false", None: "an empty value"}
    if value is None or isinstance(value, bool):
        return names[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {value[:60]!r}" if isinstance(value, str) else str(value)


def _boolean_hint(kind: str, value: Any) -> str:
    """People write yes, on or True for a boolean; those are text here."""
    if kind == "bool_type" and isinstance(value, str):
        return "; only true and false are booleans"
    return ""


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""


def _schema_at(path: Path, content: Any, schema: dict[str, Any], follow_kind: bool = True) -> dict[str, Any]:
    """Return the JSON Schema that holds at `path`; `follow_kind` picks the variant that the file's `kind` names."""
    definitions = schema.get("$defs", {})
    here = _resolve(schema, content, definitions, follow_kind or bool(path))
    for position, part in enumerate(path):
        if isinstance(part, int):
            inner = here.get("items") or here.get("prefixItems", [{}])[0]
        else:
            inner = here.get("properties", {}).get(part, {})
        content = content[part]
        here = _resolve(inner, content, definitions, follow_kind or position < len(path) - 1)
    return here


def _resolve(schema: dict[str, Any], content: Any, definitions: dict[str, Any], follow_kind: bool) -> dict[str, Any]:
    while True:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        elif follow_kind and "discriminator" in schema and isinstance(content, dict):
            reference = schema["discriminator"]["mapping"].get(str(content.get("kind")))
            if reference is None:
                return schema
            schema = {"$ref": reference}
        elif follow_kind and "oneOf" in schema and isinstance(content, dict):
            return _variant(schema["oneOf"], content, definitions)
        elif "anyOf" in schema and "discriminator" not in schema:
            optional = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
            if len(optional) != 1:
                return schema
            schema = optional[0]
        else:
            return schema


def _variant(choices: list[dict[str, Any]], content: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The section of the file's `kind`, where one of them is meant by a file that has none."""
    sections = [definitions[choice["$ref"].rsplit("/", 1)[-1]] for choice in choices]
    kinds = [section["properties"]["kind"] for section in sections]
    default = next((kind["default"] for kind in kinds if "default" in kind), None)
    named = (s for s, kind in zip(sections, kinds, strict=True) if kind["const"] == content.get("kind", default))
    return next(named, {})
