# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of apt and dnf, and what they have installed."""

from __future__ import annotations

#: The messages are parsed, so they must come in English.
ENVIRONMENT = {"LC_ALL": "C", "LANGUAGE": "C", "DEBIAN_FRONTEND": "noninteractive"}


def run(module, command, **options):
    """(status, output, errors) of a command. options: of run_command."""
    return module.run_command(command, environ_update=ENVIRONMENT, **options)


def apt_installed(module, names):
    """Those of names that are installed."""
    command = ["dpkg-query", "--show", "--showformat", "${binary:Package} ${Status}\n", *names]
    # Its status is 1 when it does not know one of them, and it still lists the others.
    _status, out, _err = run(module, command)
    return {line.split()[0].partition(":")[0] for line in out.splitlines() if line.endswith(" installed")}


def dnf_installed(module, names):
    """EPOCH:VERSION of those of names that are installed."""
    command = ["rpm", "--query", "--queryformat", "%{NAME} %{EPOCHNUM}:%{VERSION}\n", *names]
    _status, out, _err = run(module, command)
    # The others are lines like "package NAME is not installed".
    return dict(line.split() for line in out.splitlines() if line.count(" ") == 1)
