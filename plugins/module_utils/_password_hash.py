# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a password is the one that a server has the hash of. No I/O here."""

from __future__ import annotations

import hashlib
import hmac
import re

# $A$, thousands of rounds in hexadecimal, $, 20 characters of salt, 43 of the digest.
_SHA2 = re.compile(rb"\$A\$([0-9A-F]{3})\$(.{20})(.{43})", re.DOTALL)
_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def is_password(password, plugin, stored):
    """Whether an account has this password.

    plugin, stored: its authentication plugin and string, as mysql.user has them. None for a plugin, or a form
    of its string, that is not known here.
    """
    if plugin == "mysql_native_password":
        return _is_same(native_hash(password).encode(), stored.encode("utf-8"))
    if plugin == "caching_sha2_password":
        if not stored:
            return False
        match = _SHA2.fullmatch(stored.encode("utf-8"))
        if match:
            rounds, salt, digest = match.groups()
            return _is_same(_sha256_crypt(password.encode("utf-8"), salt, int(rounds, 16) * 1000), digest)
    return None


def _is_same(one, other):
    return hmac.compare_digest(one, other)


def native_hash(password):
    """What mysql_native_password stores of a password."""
    # The server's choice, not ours.
    once = hashlib.sha1(password.encode("utf-8")).digest()  # noqa: S324
    return "*" + hashlib.sha1(once).hexdigest().upper()  # noqa: S324


def _repeated(digest, length):
    return (digest * (length // len(digest) + 1))[:length]


def _sha256_crypt(password, salt, rounds):
    """The digest of the SHA-crypt scheme with SHA-256, as text of its alphabet.

    https://www.akkadia.org/drepper/SHA-crypt.txt; the salt is longer here than there.
    """
    other = hashlib.sha256(password + salt + password).digest()
    text = password + salt + _repeated(other, len(password))
    length = len(password)
    while length:
        text += other if length & 1 else password
        length >>= 1
    digest = hashlib.sha256(text).digest()
    password_part = _repeated(hashlib.sha256(password * len(password)).digest(), len(password))
    salt_part = _repeated(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        digest = hashlib.sha256(
            (password_part if number & 1 else digest)
            + (salt_part if number % 3 else b"")
            + (password_part if number % 7 else b"")
            + (digest if number & 1 else password_part)
        ).digest()
    return _encoded(digest)


def _encoded(digest):
    """32 bytes in the scheme's order: three of them, ten apart, make four characters."""
    text = bytearray()
    for number in range(10):
        first, second, third = ((number * 21 + step) % 30 for step in (0, 10, 20))
        text += _characters(digest[first] << 16 | digest[second] << 8 | digest[third], 4)
    return bytes(text + _characters(digest[31] << 8 | digest[30], 3))


def _characters(number, count):
    return bytes(_ALPHABET[number >> 6 * place & 63] for place in range(count))
