# SPDX-License-Identifier: GPL-3.0-or-later
"""A library whose function returns which build of it is loaded."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.modules import mysql_config

SOURCE = """
#include <mysql.h>
#include <string.h>
#if defined(MARIADB_VERSION_ID)
typedef my_bool answer;
#else
#include <stdbool.h>
typedef bool answer;
#endif
#define FUNCTION(name) \\
    answer name##_init(UDF_INIT *i, UDF_ARGS *a, char *m) { (void)i; (void)a; (void)m; return 0; } \\
    void name##_deinit(UDF_INIT *i) { (void)i; } \\
    long long name(UDF_INIT *i, UDF_ARGS *a, unsigned char *n, unsigned char *e) { \\
        (void)i; (void)a; (void)n; (void)e; return BUILD; }
FUNCTION(build_number)
#ifdef EXTRA
FUNCTION(extra_number)
#endif
"""
BUILD_NUMBER = {"name": "build_number", "returns": "integer"}
#: Only some builds have it.
EXTRA_NUMBER = {"name": "extra_number", "returns": "integer"}


def compiled(directory: Path, number: int, extra: bool = False) -> Path:
    """The build of this number in the directory, with extra_number or without."""
    target = directory / f"numbered{number}{'x' if extra else ''}.so"
    if not target.exists():
        include = subprocess.run(
            [mysql_config(), "--include"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.split()
        options = [f"-DBUILD={number}", *(["-DEXTRA"] if extra else []), *include]
        subprocess.run(
            ["gcc", "-shared", "-fPIC", *options, "-x", "c", "-", "-o", str(target)],
            input=SOURCE,
            text=True,
            check=True,
        )
    return target
