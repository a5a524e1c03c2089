#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_files
short_description: Write and remove several files of a host in one step
version_added: 1.0.0
description:
  - Does for a list of files what C(ansible.builtin.copy) with C(content) and C(ansible.builtin.file) with
    C(state=absent) do for one. A task of those needs up to five remote commands for a file that is as it
    should be; this module needs one for all.
  - Each file is written in one step; programs see the former content or the new one. A directory that is
    missing is made with mode C(0755), unless it is in the list before.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  files:
    description: The files, in the order in which they are written and removed.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path.
        type: path
        required: true
      state:
        description: Whether the file has O(files[].content), is not there, or is a directory.
        type: str
        choices: [present, absent, directory]
        default: present
      content:
        description: The whole content. Required with O(files[].state=present).
        type: str
      owner:
        description: The owner.
        type: str
        default: root
      group:
        description: The group.
        type: str
        default: root
      mode:
        description: The mode, in octal digits. Without it a file has C(0644), and a directory C(0755).
        type: str
      validate:
        description:
          - A command that accepts a new content by its exit status 0; C(%s) stands for the path of a file
            with it. Nothing is written otherwise. Not run in check mode.
        type: str
"""

EXAMPLES = r"""
- name: Write a unit, and remove its former drop-in
  gearsync.mysql_redis.host_files:
    files:
      - path: /etc/systemd/system/example.service
        content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
      - path: /etc/systemd/system/example.service.d/local.conf
        state: absent
"""

RETURN = r"""
paths:
  description: The files that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/example.service]
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text


def read(path):
    """The content of a file; None when it is not there."""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def write(module, wanted, content):
    """Put the content into the file's place, in one step."""
    os.makedirs(os.path.dirname(wanted["path"]), mode=0o755, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=module.tmpdir)
    module.add_cleanup_file(new)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    if wanted["validate"]:
        status, output, problem = module.run_command(wanted["validate"] % new)
        if status != 0:
            module.fail_json(
                msg=f"{wanted['path']} was left as it is, because its new content is not valid",
                rc=status,
                stdout=output,
                stderr=problem,
            )
    # A new file is for its owner alone until it has its mode: it may hold a secret.
    former = os.umask(0o077)
    try:
        module.atomic_move(new, wanted["path"])
    finally:
        os.umask(former)


def put(module, wanted):
    """Bring a file to its content, owner and mode: whether it had to be changed, and the difference."""
    path, content = wanted["path"], to_bytes(wanted["content"])
    before = read(path)
    changed = before != content
    if changed and not module.check_mode:
        write(module, wanted, content)
    attributes = {}
    if os.path.exists(path):
        arguments = module.load_file_common_arguments(wanted, path)
        changed = module.set_fs_attributes_if_different(arguments, changed, attributes, expand=False)
    if before == content:
        return changed, attributes
    return changed, {"before": to_text(before or b"", errors="replace"), "after": wanted["content"]}


def make(module, wanted):
    """Bring a directory to its owner and mode: whether it had to be changed, and the difference."""
    path = wanted["path"]
    missing = not os.path.isdir(path)
    if missing and not module.check_mode:
        os.makedirs(path, mode=0o700)
    changed, attributes = missing, {}
    if os.path.isdir(path):
        arguments = module.load_file_common_arguments(wanted, path)
        changed = module.set_fs_attributes_if_different(arguments, changed, attributes, expand=False)
    return changed, {"before": "", "after": "directory\n"} if missing else attributes


def remove(module, wanted):
    """Remove a file: whether it was there, and the difference."""
    path = wanted["path"]
    if not os.path.lexists(path):
        return False, {}
    before = to_text(read(path) or b"", errors="replace")
    if not module.check_mode:
        os.unlink(path)
    return True, {"before": before, "after": ""}


#: What each state asks for.
STATES = {"present": put, "absent": remove, "directory": make}


def main():
    file_spec = {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": list(STATES), "default": "present"},
        "content": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
        "validate": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": file_spec,
                "required_if": [("state", "present", ("content",))],
            }
        },
        supports_check_mode=True,
    )
    # Of the directories that are made, whatever the login's own is.
    os.umask(0o022)
    paths, differences = [], []
    for wanted in module.params["files"]:
        path, is_directory = wanted["path"], wanted["state"] == "directory"
        wanted["mode"] = wanted["mode"] or ("0755" if is_directory else "0644")
        of_another_kind = os.path.lexists(path) and os.path.isdir(path) != is_directory
        if of_another_kind or not os.path.isabs(path):
            kind = "directory" if is_directory else "file"
            module.fail_json(msg=f"files: {path} is not the absolute path of a {kind}. Nothing was changed.")
    for wanted in module.params["files"]:
        changed, difference = STATES[wanted["state"]](module, wanted)
        if changed:
            paths.append(wanted["path"])
            differences.append(
                {"before_header": wanted["path"], "after_header": wanted["path"], **difference}
            )
    result = {"changed": bool(paths), "paths": paths}
    if module._diff:
        result["diff"] = differences
    module.exit_json(**result)


if __name__ == "__main__":
    main()
