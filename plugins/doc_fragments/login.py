# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How a module logs in to MySQL or MariaDB."""

    DOCUMENTATION = r"""
options:
  login_user:
    description:
      - The account to log in with.
      - When it is left out, the account of O(config_file) is taken.
    type: str
  login_password:
    description:
      - The password of that account.
      - When it is left out, the password of O(config_file) is taken.
    type: str
  login_host:
    description:
      - The host that the server runs on.
      - The host that O(config_file) names is taken when this option has its default value.
    type: str
    default: localhost
  login_port:
    description:
      - The server's TCP port, 3306 when neither this option nor O(config_file) names one.
    type: int
  login_unix_socket:
    description:
      - The server's socket on the managed host; O(login_host) and O(login_port) are not used then.
    type: path
  config_file:
    description:
      - A MySQL option file on the managed host, whose V([client]) section is read for what the other options
        leave out.
      - A missing file is not an error.
    type: path
    default: ~/.my.cnf
  connect_timeout:
    description:
      - Seconds to wait for a connection.
    type: int
    default: 10
  client_cert:
    description:
      - The client's certificate, a file on the managed host. Needs O(client_key) and O(ca_cert).
    type: path
    aliases: [ssl_cert]
  client_key:
    description:
      - The key of O(client_cert), a file on the managed host.
    type: path
    aliases: [ssl_key]
  ca_cert:
    description:
      - The certificate authority that must have signed the server's certificate, a file on the managed host.
      - Setting it demands TLS, of which nothing falls back to plain text.
    type: path
    aliases: [ssl_ca]
  check_hostname:
    description:
      - Whether the server's certificate must be made out to O(login_host).
      - Without this option the name is checked when O(ca_cert) is set.
    type: bool
requirements:
  - PyMySQL on the managed host (package C(python3-pymysql) on Debian, C(python3-PyMySQL) on Enterprise Linux)
"""
