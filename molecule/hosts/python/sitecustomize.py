# SPDX-License-Identifier: GPL-3.0-or-later
"""For Ansible's modules in a test host: keep the compiled code of what is imported from a zip.

Ansible sends each module with its imports as sources in a zip, which Python compiles anew for each task: half
of what a task costs. Code is kept by the checksum of its source, so that a changed module is compiled again.
molecule/hosts/up puts this file into the host's /run, and molecule/connection names that directory in
PYTHONPATH, for Ansible's own commands and nothing that they start.
"""

import contextlib
import hashlib
import marshal
import os
import sys
import zipimport

os.environ.pop("PYTHONPATH", None)
CACHE = os.path.join(os.path.dirname(__file__), sys.implementation.cache_tag)
compile_source = zipimport._compile_source


def kept_source(pathname, source):
    """The code object of a source; compiled only the first time."""
    path = os.path.join(CACHE, hashlib.sha256(source).hexdigest())
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError), open(path, "rb") as file:
        return marshal.loads(file.read())
    code = compile_source(pathname, source)
    with contextlib.suppress(OSError):
        os.makedirs(CACHE, exist_ok=True)
        # Renamed into place: another task may be reading it.
        unfinished = f"{path}.{os.getpid()}"
        with open(unfinished, "wb") as file:
            file.write(marshal.dumps(code))
        os.rename(unfinished, path)
    return code


zipimport._compile_source = kept_source
