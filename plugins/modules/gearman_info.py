#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_info
short_description: Ask a Gearman job server for its version, functions, workers and queues
version_added: 1.0.0
description:
  - Speaks the job server's administration protocol. Nothing but Python is needed on the managed host.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.attributes.info_module
  - gearsync.mysql_redis.job_server_tls
options:
  host:
    description:
      - The job server's name or address, IPv4 or IPv6, as seen from the managed host.
    type: str
    default: 127.0.0.1
  port:
    description:
      - Its TCP port.
    type: int
    default: 4730
  timeout:
    description:
      - Seconds that connecting and all answers may take together.
    type: float
    default: 5.0
seealso:
  - module: gearsync.mysql_redis.gearman_job
"""

EXAMPLES = r"""
- name: Look at the local job server
  gearsync.mysql_redis.gearman_info:
  register: gearman

- name: Wait until a worker for syncToRedis is there
  gearsync.mysql_redis.gearman_info:
    host: jobs.example.com
  register: gearman
  until: gearman.functions | selectattr('name', 'equalto', 'syncToRedis') | selectattr('workers', 'gt', 0) |
    list | length > 0
  retries: 30
  delay: 1
"""

RETURN = r"""
queries:
  description: The commands of the administration protocol that were sent.
  returned: success
  type: list
  elements: str
  sample: [version, status, workers]
version:
  description: The job server's version.
  returned: success
  type: str
  sample: 1.1.21
functions:
  description: The functions that the job server knows, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The function's name.
      type: str
      sample: syncToRedis
    queued:
      description: Jobs that wait for a worker.
      type: int
      sample: 0
    running:
      description: Jobs that a worker has.
      type: int
      sample: 1
    workers:
      description: Workers that can do the function.
      type: int
      sample: 2
workers:
  description: The clients that can do a function.
  returned: success
  type: list
  elements: dict
  contains:
    fd:
      description: The connection's number in the job server.
      type: int
      sample: 33
    address:
      description: The worker's address.
      type: str
      sample: 127.0.0.1
    client_id:
      description: The name that the worker has given itself, V(-) when none.
      type: str
      sample: "-"
    functions:
      description: The functions that it can do.
      type: list
      elements: str
      sample: [reverse, syncToRedis]
queued:
  description: Jobs of all functions that wait for a worker.
  returned: success
  type: int
  sample: 0
running:
  description: Jobs of all functions that a worker has.
  returned: success
  type: int
  sample: 1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_admin import (
    Admin,
    JobServerError,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_tls import (
    TlsError,
    tls_argument_spec,
    tls_context,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 4730},
            "timeout": {"type": "float", "default": 5.0},
            **tls_argument_spec(),
        },
        supports_check_mode=True,
    )
    try:
        with Admin(
            module.params["host"], module.params["port"], module.params["timeout"], tls_context(module.params)
        ) as admin:
            version = admin.version()
            functions = sorted(admin.functions(), key=lambda function: function["name"])
            # A connection that can do nothing is a client, this one for example.
            workers = [worker for worker in admin.workers() if worker["functions"]]
    except (JobServerError, TlsError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        queries=["version", "status", "workers"],
        version=version,
        functions=functions,
        workers=workers,
        queued=sum(function["queued"] for function in functions),
        running=sum(function["running"] for function in functions),
    )


if __name__ == "__main__":
    main()
