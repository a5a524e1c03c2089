"""The sanitizers are really at work: otherwise all other tests would pass for the wrong reason."""

from __future__ import annotations

import pytest
from sanitized import Driver


@pytest.mark.parametrize(("mistake", "says"), [("overrun", "heap-buffer-overflow"), ("overflow", "signed integer overflow")])
def test_mistake_ends_the_driver(mistake: str, says: str) -> None:
    driver = Driver("lib_mysqludf_json.so")
    with pytest.raises(pytest.fail.Exception, match=says):
        driver.ask(mistake)


def test_leak_is_found() -> None:
    driver = Driver("lib_mysqludf_json.so")
    assert driver.ask("leak") == "ok"
    with pytest.raises(AssertionError, match="LeakSanitizer: detected memory leaks"):
        driver.close()
