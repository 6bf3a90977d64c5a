"""Pages of the console in a real browser."""

from typing import Any

EXPECTED = "the server responded with a status of 409"
"""The browser notes a change that was refused or has to be confirmed, as it notes every such answer."""


def console_page(browser: Any, url: str, *, dark: bool = False, width: int = 1440, height: int = 900) -> Any:
    """Opens a page and waits for its first content. Its ``problems`` are what the browser complains about."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.problems = []
    page.on("console", lambda said: _note(page, said))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: page.problems.append(f"a dialog: {dialog.message}"))
    page.goto(url)
    page.wait_for_selector("main h1")
    page.wait_for_selector("#connection[data-state=live]")
    return page


def _note(page: Any, said: Any) -> None:
    if said.type == "error" and EXPECTED not in said.text:
        page.problems.append(said.text)
