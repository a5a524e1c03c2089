# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How a module speaks to job servers that serve TLS."""

    DOCUMENTATION = r"""
options:
  tls:
    description:
      - Whether to speak TLS to job servers, and never anything else. Their certificates must be made out to
        the names or addresses used.
    type: bool
    default: false
  tls_ca_file:
    description:
      - File on the managed host with the certificates of the authorities that sign for job servers; the
        system's when it is left out.
    type: path
  tls_cert_file:
    description:
      - File on the managed host with the certificate that is shown to job servers, and those between it and
        its authority. Needs O(tls_key_file).
    type: path
  tls_key_file:
    description:
      - File on the managed host with the private key of O(tls_cert_file), not encrypted.
    type: path
  tls_server_name:
    description:
      - Name in the certificate of the job server; the one of its address when it is left out.
    type: str
  tls_minimum_version:
    description:
      - The lowest version.
    type: str
    choices: [TLSv1.2, TLSv1.3]
    default: TLSv1.2
"""
