"""A YAML file read into structs with every mistake in it, each with its line. Knows nothing of what the file is about."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple, Optional, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

#: Where something stands: names of fields and numbers of list elements.
Path = tuple[Union[str, int], ...]


#: A name that is longer is none of a field.
_LONGEST_NAME = 40


class Mistake(NamedTuple):
    """Something wrong at a place of the file."""

    path: Path
    message: str
    hint: str = ""


class Unreadable(Exception):
    """Text that is no YAML document of one mapping; the line is None when nobody knows it."""

    def __init__(self, message: str, line: Optional[int]) -> None:
        super().__init__(message)
        self.line = line


def words(path: Path) -> str:
    """``tables[0].write[1].key``. Pure."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _without_content(problem: str) -> str:
    """A sentence of PyYAML's without what it quotes from the file, which may be a password that begins with ! or *. Pure.

    What it expected, and the one character or the kind of token that it found, are no content.
    """
    return problem if problem.startswith(("expected ", "found character ", "found unknown escape character ")) else problem.partition("'")[0].rstrip()


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
            raise Unreadable(f"not YAML: {problem}" + (f", column {mark.column + 1}" if mark else ""), mark.line + 1 if mark else None) from None
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
                found = [(key, value) for key, value in node.value if key.value == part]
                if not found:
                    break
                key, node = found[-1]
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
            values = [value for key, value in node.value if key.value == part] if isinstance(node, yaml.MappingNode) else []
            if not values:
                return False
            node = values[-1]
        return self._loader.construct_object(node, deep=True) is not None

    def convert(self, kind: type[Any]) -> tuple[Any, list[Mistake]]:
        """The document as a struct, and what is wrong with it.

        A field that is wrong or missing has its default, or an empty value when it has none, so that the rest can be looked at; what is no mapping is None.
        """
        mistakes: list[Mistake] = []
        return self._struct(self._root, kind, (), mistakes), mistakes

    def _struct(self, node: yaml.Node, kind: type[Any], path: Path, mistakes: list[Mistake]) -> Any:
        if not isinstance(node, yaml.MappingNode):
            mistakes.append(Mistake(path, "must be a mapping of names to values", "write name: value, a line each, or {name: value, …}"))
            return None
        self._loader.flatten_mapping(node)
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        types = get_type_hints(kind)
        values: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            here = (*path, name)
            if name in seen and name in fields:
                mistakes.append(Mistake(here, f"stands there twice, in line {seen[name]} too", "leave one of them out"))
            seen.setdefault(name, key.start_mark.line + 1)
            if name not in fields:
                mistakes.append(_unknown(path, name, list(fields)))
                continue
            before = len(mistakes)
            found = self._value(value, types[fields[name].name], here, mistakes)
            # A list keeps its good elements, and a struct its good fields.
            if len(mistakes) == before or found is not None:
                values[fields[name].name] = found
            else:
                self.replaced.add(here)
        for name, field in fields.items():
            if field.required and name not in seen:
                mistakes.append(Mistake((*path, name), "is missing", "it has no default: add it"))
            if field.required and values.get(field.name) is None:
                self.replaced.add((*path, name))
                values[field.name] = [] if get_origin(types[field.name]) is list else ""
        return kind(**values)

    def _value(self, node: yaml.Node, kind: Any, path: Path, mistakes: list[Mistake]) -> Any:
        struct = _struct_of(kind)
        if struct is not None and not (type(None) in get_args(kind) and self._loader.construct_object(node, deep=True) is None):
            return self._struct(node, struct, path, mistakes)
        element = _struct_of(get_args(kind)[0]) if get_origin(kind) is list else None
        if element is not None and isinstance(node, yaml.SequenceNode):
            return [self._struct(part, element, (*path, number), mistakes) for number, part in enumerate(node.value)]
        try:
            return msgspec.convert(self._loader.construct_object(node, deep=True), kind)
        except msgspec.ValidationError as error:
            message, _dash, place = str(error).partition(" - at `$")
            inner = tuple(int(part) for part in place.rstrip("`").strip("[]").split("][") if part.isdigit())
            mistakes.append(Mistake((*path, *inner), message[:1].lower() + message[1:], _hint(message)))
            return None


#: What to write, by what a message says that was expected.
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text, in quotes where it looks like something else", "array": "a list"}


def _hint(message: str) -> str:
    expected = message.partition("`")[2].partition("`")[0].partition(" ")[0]
    return f"write {_KINDS[expected]}" if expected in _KINDS else "write one of the values that the documentation names"


def _unknown(path: Path, name: str, fields: list[str]) -> Mistake:
    close = difflib.get_close_matches(name, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}"
    # A missing colon or comma makes a name of a password: alone, with what follows it, or behind its own name.
    longest = _LONGEST_NAME if "password" not in fields else len(close[0]) if close else 0
    shown = name.isidentifier() and len(name) <= longest
    return Mistake((*path, name), "is unknown", hint) if shown else Mistake(path, "holds a name that is unknown", hint)


def _struct_of(kind: Any) -> Optional[type[Any]]:
    """The struct that ``kind`` is, or may be."""
    for found in (kind, *(get_args(kind) if get_origin(kind) is Union else ())):
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            return found
    return None
