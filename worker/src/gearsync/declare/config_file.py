# SPDX-License-Identifier: GPL-3.0-or-later
"""A YAML file read into structs with every problem in it, each with its line. Knows nothing of what the
file is about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from gearsync.declare.fields import MAX_FIELD
from gearsync.declare.problem import Problem, closest, suggestion

#: Where something stands: names of fields and numbers of list elements.
Path = tuple[Union[str, int], ...]


class Unreadable(Exception):
    """Text that is not a YAML document of one mapping; the line is None when it is not known."""

    def __init__(self, message: str, line: Optional[int]) -> None:
        super().__init__(message)
        self.line = line


def _without_content(problem: str) -> str:
    """A sentence of PyYAML's without what it quotes from the file, which may be a password that begins with !
    or *. Pure.

    What it expected, and the one character or the kind of token that it found, are no content.
    """
    return (
        problem
        if problem.startswith(("expected ", "found character ", "found unknown escape character "))
        else problem.partition("'")[0].rstrip()
    )


class Document:
    """The file's tree."""

    def __init__(self, text: bytes) -> None:
        """Raises Unreadable."""
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
            if root is None:
                raise Unreadable("the file is empty", None)
            if not isinstance(root, yaml.MappingNode):
                raise Unreadable("not a mapping of names to values", root.start_mark.line + 1)
            # Anchors that hold themselves, unknown tags: better now than in the middle.
            self._loader.construct_object(root, deep=True)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = _without_content(error.problem or error.context or "it cannot be read")
            raise Unreadable(
                f"not YAML: {problem}" + (f", column {mark.column + 1}" if mark else ""),
                mark.line + 1 if mark else None,
            ) from None
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise Unreadable(f"not YAML: {type(error).__name__}", None) from None
        self._root = root
        #: The fields that could not be read by `convert`, in whose place another value stands.
        self.replaced: set[Path] = set()

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest thing around it that is there; the first is 1."""
        node, line = self._root, 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                entries = [(key, value) for key, value in node.value if key.value == part]
                if not entries:
                    break
                key, node = entries[-1]
                line = key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def has(self, path: Path) -> bool:
        """Whether something that is not null stands at a place of mappings."""
        node = self._root
        for part in path:
            values = (
                [value for key, value in node.value if key.value == part]
                if isinstance(node, yaml.MappingNode)
                else []
            )
            if not values:
                return False
            node = values[-1]
        return self._loader.construct_object(node, deep=True) is not None

    def value(self, name: str, default: Any) -> Any:
        """What stands under a name of the document, as YAML has it."""
        values = [value for key, value in self._root.value if key.value == name]
        return self._loader.construct_object(values[-1], deep=True) if values else default

    def twice(self, name: str, known: Collection[str]) -> Iterator[Problem]:
        """The known names that stand twice in one mapping, in what stands under a name of the document."""
        nodes: list[tuple[Path, yaml.Node]] = [
            ((name,), node) for key, node in self._root.value if key.value == name
        ]
        # An alias is the node that it stands for.
        looked_at = set()
        while nodes:
            path, node = nodes.pop()
            if node in looked_at:
                continue
            looked_at.add(node)
            if isinstance(node, yaml.SequenceNode):
                nodes += [((*path, number), part) for number, part in enumerate(node.value)]
            elif isinstance(node, yaml.MappingNode):
                nodes += [((*path, str(key.value)), part) for key, part in node.value]
                yield from _listed_twice(node, path, known)

    def convert(self, kind: type[Any], apart: str) -> tuple[Any, list[Problem]]:
        """The document as a struct, and what is wrong with it. The field ``apart`` is not looked at, and has
        its default.

        A field that is wrong or missing has its default, or an empty value when it has none, so that the rest
        can be looked at.
        """
        problems: list[Problem] = []
        return self._struct(self._root, kind, (), problems, apart), problems

    def _struct(
        self, node: yaml.Node, kind: type[Any], path: Path, problems: list[Problem], apart: str = ""
    ) -> Any:
        if not isinstance(node, yaml.MappingNode):
            problems.append(
                Problem(
                    path,
                    "must be a mapping of names to values",
                    "write name: value, a line each, or {name: value, …}",
                )
            )
            return None
        self._loader.flatten_mapping(node)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        types = get_type_hints(kind)
        values: dict[str, Any] = {}
        problems += _listed_twice(node, path, fields)
        given = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            here = (*path, name)
            given.add(name)
            if name not in fields:
                problems.append(_unknown(path, name, list(fields)))
            if name not in fields or name == apart:
                continue
            before = len(problems)
            field = self._value(value, types[fields[name].name], here, problems)
            # A struct keeps its good fields.
            if len(problems) == before or field is not None:
                values[fields[name].name] = field
            else:
                self.replaced.add(here)
        for name, field in fields.items():
            if field.required and name not in given:
                problems.append(Problem((*path, name), "is missing", "it has no default: add it"))
            if field.required and values.get(field.name) is None:
                self.replaced.add((*path, name))
                values[field.name] = [] if get_origin(types[field.name]) is list else ""
        return kind(**values)

    def _value(self, node: yaml.Node, kind: Any, path: Path, problems: list[Problem]) -> Any:
        struct = _struct_of(kind)
        if struct is not None and not isinstance(node, yaml.MappingNode):
            if type(None) in get_args(kind) and self._loader.construct_object(node, deep=True) is None:
                return None
            # What may be a struct, or simpler.
            kind = next((each for each in get_args(kind) if each in (bool, str)), kind)
        if struct is not None and _struct_of(kind):
            return self._struct(node, struct, path, problems)
        if get_origin(kind) is list and isinstance(node, yaml.SequenceNode):
            before = len(problems)
            elements = [
                self._value(part, get_args(kind)[0], (*path, number), problems)
                for number, part in enumerate(node.value)
            ]
            return elements if len(problems) == before else None
        try:
            return msgspec.convert(self._loader.construct_object(node, deep=True), kind)
        except msgspec.ValidationError as error:
            message, _dash, place = str(error).partition(" - at `$")
            inner = tuple(int(part) for part in place.rstrip("`").strip("[]").split("][") if part.isdigit())
            problems.append(Problem((*path, *inner), message[:1].lower() + message[1:], _hint(message)))
            return None


#: What to write, by the type that a message expects.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text, in quotes where it looks like something else",
    "array": "a list",
}


def _hint(message: str) -> str:
    expected = message.partition("`")[2].partition("`")[0].partition(" ")[0]
    return (
        f"write {_KINDS[expected]}"
        if expected in _KINDS
        else "write one of the values that the documentation names"
    )


def _listed_twice(node: yaml.MappingNode, path: Path, known: Collection[str]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for key, _value in node.value:
        name = str(key.value)
        if name in seen and name in known:
            yield Problem(
                (*path, name), f"stands there twice, in line {seen[name]} too", "leave one of them out"
            )
        seen.setdefault(name, key.start_mark.line + 1)


def _unknown(path: Path, name: str, fields: list[str]) -> Problem:
    hint = suggestion(name, fields, f"known are {', '.join(fields)}")
    # A missing colon or comma makes a name of a password: alone, with what follows it, or behind its own
    # name.
    longest = MAX_FIELD if "password" not in fields else len(closest(name, fields) or "")
    is_shown = name.isidentifier() and len(name) <= longest
    return (
        Problem((*path, name), "is unknown", hint)
        if is_shown
        else Problem(path, "has a field that is unknown", hint)
    )


def _struct_of(kind: Any) -> Optional[type[Any]]:
    """The struct that ``kind`` is, or may be."""
    for each in (kind, *(get_args(kind) if get_origin(kind) is Union else ())):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None
