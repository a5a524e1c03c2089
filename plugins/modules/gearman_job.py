#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_job
short_description: Submit a Gearman job and return its data and result
version_added: 1.0.0
description:
  - Submits one job to one job server, waits for its end and returns what the worker has sent; or leaves it to
    the background.
  - An answer that does not come in time is an error, and the job is not submitted again, because the first
    one may still be done.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.job_server_tls
attributes:
  check_mode:
    support: full
    details: Submits nothing.
  diff_mode:
    support: partial
    details: Shows that the job is submitted. What it does is known to its worker only.
  idempotent:
    support: none
    details: Each run submits a job.
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
  function:
    description:
      - The function that is to be done.
    type: str
    required: true
  data:
    description:
      - What the worker gets, sent in UTF-8.
    type: str
    default: ""
  unique:
    description:
      - Jobs of one function with equal V(unique) are merged while the first of them waits or runs. One of
        more than 63 bytes is sent as its hash.
    type: str
    default: ""
  priority:
    description:
      - Which jobs it may overtake.
    type: str
    choices: [low, normal, high]
    default: normal
  background:
    description:
      - Whether to return as soon as the job server has taken the job.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that all of it may take.
    type: float
    default: 10.0
seealso:
  - module: gearsync.mysql_redis.gearman_info
"""

EXAMPLES = r"""
- name: The test of the whole path from client to worker
  gearsync.mysql_redis.gearman_job:
    function: reverse
    data: hello world!
  register: reversed
  failed_when: reversed.result != '!dlrow olleh'

- name: Submit a background job
  gearsync.mysql_redis.gearman_job:
    host: jobs.example.com
    function: syncToRedis
    data: '{"name": "hello", "password": "world"}'
    priority: low
    background: true
"""

RETURN = r"""
queries:
  description: The packet that submits the job, or would in check mode, by its name in Gearman's protocol; and
    the function. Not the data.
  returned: success, and when the job was taken
  type: list
  elements: str
  sample: ["SUBMIT_JOB_LOW_BG syncToRedis"]
handle:
  description: The job's handle, as the job server's and the worker's logs name it.
  returned: when the job was taken
  type: str
  sample: "H:jobs:17"
data:
  description: What the worker has sent before the end, one entry for each WORK_DATA.
  returned: when the job was taken
  type: list
  elements: str
  sample: ["hello world!"]
job_warnings:
  description: The worker's warnings, one entry for each WORK_WARNING.
  returned: when the job was taken
  type: list
  elements: str
  sample: []
result:
  description: The job's result. Bytes that are no UTF-8 are replaced.
  returned: when the job was waited for and ended well
  type: str
  sample: "!dlrow olleh"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_admin import JobServerError
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_job import (
    JobError,
    run_job,
    submit_name,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_tls import (
    TlsError,
    tls_argument_spec,
    tls_context,
)


def _shown(outcome):
    def text(value):
        return value.decode("utf-8", "replace")

    shown = {
        "handle": outcome.handle,
        "data": [text(value) for value in outcome.data],
        "job_warnings": [text(value) for value in outcome.warnings],
    }
    if outcome.result is not None:
        shown["result"] = text(outcome.result)
    return shown


def main():
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 4730},
            "function": {"type": "str", "required": True},
            "data": {"type": "str", "default": ""},
            "unique": {"type": "str", "default": ""},
            "priority": {"type": "str", "choices": ["low", "normal", "high"], "default": "normal"},
            "background": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 10.0},
            **tls_argument_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    for name in ("function", "unique"):
        if "\0" in params[name]:
            module.fail_json(msg=f"{name} has a NUL byte, which ends it for the job server")
    if not params["function"]:
        module.fail_json(msg="function is empty")
    queries = [f"{submit_name(params['priority'], params['background'])} {params['function']}"]
    submitted = {"queries": queries}
    if module._diff:
        submitted["diff"] = {"before": "", "after": f"{queries[0]}\n"}
    try:
        tls = tls_context(params)
        if module.check_mode:
            module.exit_json(changed=True, **submitted)
        outcome = run_job(
            params["host"],
            params["port"],
            params["function"].encode("utf-8"),
            params["data"].encode("utf-8"),
            unique=params["unique"].encode("utf-8"),
            priority=params["priority"],
            background=params["background"],
            timeout=params["timeout"],
            tls=tls,
        )
    except (JobServerError, TlsError) as error:
        module.fail_json(msg=str(error))
    except JobError as failure:
        module.fail_json(msg=str(failure), queries=queries, **_shown(failure.outcome))
    module.exit_json(changed=True, **submitted, **_shown(outcome))


if __name__ == "__main__":
    main()
