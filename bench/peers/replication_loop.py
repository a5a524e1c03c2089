# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain loop that a person writes with python-mysql-replication and redis-py: a pipeline a transaction,
with the position behind it.

usage: replication_loop.py SETTINGS.JSON     a program of its own, so that it has no more in its memory than
it needs
"""

import json
import sys
from pathlib import Path

import redis
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import RotateEvent, XidEvent
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent


def main(settings: Path) -> None:
    given = json.loads(settings.read_text())
    client = redis.Redis(port=given["redis"], decode_responses=True)
    position = client.hgetall("replication:position")
    stream = BinLogStreamReader(
        connection_settings=given["connection"],
        server_id=given["server_id"],
        blocking=True,
        resume_stream=True,
        log_file=position.get("file"),
        log_pos=int(position.get("pos", 0)) or None,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent, XidEvent, RotateEvent],
        only_schemas=["bench"],
        only_tables=given["tables"],
    )
    pipeline = client.pipeline(transaction=False)
    for event in stream:
        if isinstance(event, (WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)):
            for row in event.rows:
                values = row.get("after_values") or row["values"]
                key = f"bench_{event.table}:{values['id']}"
                if isinstance(event, DeleteRowsEvent):
                    pipeline.delete(key)
                else:
                    pipeline.hset(key, mapping=values)
        else:
            pipeline.hset("replication:position", mapping={"file": stream.log_file, "pos": stream.log_pos})
            pipeline.execute()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
