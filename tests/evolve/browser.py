"""A real browser, where this machine has one that needs no download."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@contextmanager
def browsing(errors: bool = True) -> Iterator[Page]:
    """Yield a page; raises at its end where a script of it has failed, unless `errors` is off."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    failures: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found, args=list(QUIET), env=_environment()
        )
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on(
            "console", lambda said: failures.append(said.text) if said.type == "error" else None
        )
        yield page
        browser.close()
    assert not (errors and failures)


def _environment() -> dict[str, str | float | bool]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
