# SPDX-License-Identifier: GPL-2.0-or-later
"""The sanitizers detect errors: without them the other tests would prove nothing."""

from __future__ import annotations

import pytest
from sanitized import Driver


@pytest.mark.parametrize(
    ("error", "message"), [("overrun", "heap-buffer-overflow"), ("overflow", "signed integer overflow")]
)
def test_error_ends_the_driver(error: str, message: str) -> None:
    driver = Driver("lib_mysqludf_json.so")
    with pytest.raises(pytest.fail.Exception, match=message):
        driver.ask(error)


def test_leak_is_detected() -> None:
    driver = Driver("lib_mysqludf_json.so")
    assert driver.ask("leak") == "ok"
    with pytest.raises(AssertionError, match="LeakSanitizer: detected memory leaks"):
        driver.close()
