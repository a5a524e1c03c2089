# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a few rows as Hypothesis makes them, and what is written of them in every shape."""

from __future__ import annotations

from gearsync.declare.declaration import Table, Write
from gearsync.project.commands import FormerWriter
from gearsync.project.payload import Change
from gearsync.shapes.shape import Step
from gearsync.values import Number, Row
from hypothesis import strategies as st

COLUMNS = ["id", "a", "b"]
SHAPES = [
    Write(type="hash", key="h:{id}"),
    Write(type="hash", key="ha:{a}:{id}"),
    Write(type="json", key="j:{id}"),
    Write(type="string", key="s:{id}:{column}"),
    Write(type="string", key="v:{id}", value="{a}-{b}"),
    Write(type="set", key="set:{a}", member="{id}"),
    Write(type="zset", key="z:{b}", member="{id}", score="{id}"),
]
LOGS = [Write(type="list", key="l:{a}", value="{id}", ttl=9), Write(type="stream", key="log")]
TABLES = {
    "s.t": [*SHAPES, *LOGS],
    "s.ttl": [
        Write(
            type=shape.type,
            key=f"ttl:{shape.key}",
            value=shape.value,
            member=shape.member,
            score=shape.score,
            ttl=60,
        )
        for shape in SHAPES
    ],
    # Writes the hash of s.t as well.
    "s.other": [Write(type="hash", key="h:{id}")],
}

numbers = st.integers(0, 3).map(Number)
texts = st.one_of(st.none(), st.text(max_size=3), st.binary(max_size=3), numbers)
rows = st.fixed_dictionaries({"id": numbers, "a": texts, "b": texts})


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Change]]:
    """Changes of a few rows of several tables, each beginning where the row's last one ended."""
    now: dict[tuple[str, str], Row] = {}
    found = []
    for _ in range(draw(st.integers(1, 12))):
        name, row = draw(st.sampled_from(sorted(TABLES))), draw(rows)
        identity = (name, str(row["id"]))
        old = now.get(identity)
        if old is not None and draw(st.booleans()):
            found.append((name, Change(name, "delete", None, old)))
            del now[identity]
            continue
        # A trigger that is older than the declaration does not send every column.
        new: Row = {
            key: value for key, value in row.items() if key != "b" or name != "s.other" or draw(st.booleans())
        }
        found.append((name, Change(name, "insert" if old is None else "update", new, old)))
        now[identity] = new
    return found


def steps_of(history: list[tuple[str, Change]]) -> list[Step]:
    """What a worker does for these changes, one after the other."""
    writers = {
        name: FormerWriter(Table(table=name, columns=COLUMNS, write=writes))
        for name, writes in TABLES.items()
    }
    return [step for name, change in history for step in writers[name].steps(change)]
