# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the host: what decides which wheels its Python takes, by the names of the conditions in the lock."""

import json
import os
import platform
import sys

print(
    json.dumps(
        {
            "implementation_name": sys.implementation.name,
            "libc": os.confstr("CS_GNU_LIBC_VERSION"),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_python_implementation": platform.python_implementation(),
            "platform_system": platform.system(),
            "python_full_version": platform.python_version(),
            "python_version": ".".join(platform.python_version_tuple()[:2]),
            "sys_platform": sys.platform,
        },
        sort_keys=True,
    )
)
sys.exit(sys.version_info < (3, 9))
