"""The chat page in headless Chromium, at phone width and with the keyboard only."""

from __future__ import annotations

import re
import shutil

import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 360, "height": 640})
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    page.hosts = set()
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    yield page
    context.close()


def expected(target, text):
    """Decode plainly until the context of 128 tokens is full, as the page requests."""
    ids = target.tokenizer.encode(text)
    room = 128 - len(ids)
    answer = generate_ids(
        target, None, ids, tree=TreeConfig(), sampling=SamplingConfig(), max_tokens=room, context=128
    ).ids
    return target.tokenizer.decode(answer)


def wait_until_idle(page):
    page.locator("#send", has_text="Send").wait_for()


def test_a_chat_with_the_keyboard_on_a_phone(page, serve, target):
    running = serve(target, slow_s=0.01)
    page.goto(running.url)
    page.locator("#model", has_text="tiny").wait_for()
    page.keyboard.type("hello")  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant span")
    wait_until_idle(page)
    assert page.locator(".user").text_content() == "hello"
    assert page.locator(".assistant").text_content() == expected(target, "u:hello\na:")
    drafted = page.locator(".assistant span[class^=run]")
    assert drafted.count() > 0
    for class_name in {span.get_attribute("class") for span in drafted.all()}:
        assert re.fullmatch("run[1-4]", class_name)
    assert float(page.locator("#accept").text_content()) > 1.0
    assert float(page.locator("#speed").text_content()) > 0.0
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.hosts == {running.url.removeprefix("http://")}  # no requests to other hosts
    assert page.problems == []


def test_speculation_can_be_switched_off_without_a_mouse(page, serve, target):
    running = serve(target)
    page.goto(running.url)
    page.locator("#model", has_text="tiny").wait_for()
    page.locator("#speculative").focus()
    page.keyboard.press("Space")
    page.locator("#prompt").focus()
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant span")
    wait_until_idle(page)
    assert page.locator(".assistant").text_content() == expected(target, "u:hello\na:")
    assert page.locator(".assistant span[class^=run]").count() == 0
    assert page.locator("#accept").text_content() == "1.00"


def test_escape_stops_an_answer_and_frees_its_slot(page, serve, target):
    running = serve(target, slow_s=0.1)
    page.goto(running.url)
    page.locator("#model", has_text="tiny").wait_for()
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".assistant span")
    assert page.locator("#send").text_content() == "Stop"
    page.keyboard.press("Escape")
    wait_until_idle(page)
    assert running.idle(3.0)
    page.locator("#new").click()
    assert page.locator(".turn").count() == 0


def test_an_error_is_shown(page, serve, target):
    running = serve(target)
    page.goto(running.url)
    page.locator("#model", has_text="tiny").wait_for()
    page.locator("#prompt").fill("x" * 200)
    page.keyboard.press("Enter")
    page.wait_for_selector(".failed")
    assert "However, your messages resulted in 205 tokens" in page.locator(".failed").text_content()


def test_a_missing_key_is_requested(page, serve, target):
    running = serve(target, api_key="s3cret")
    page.on("dialog", lambda dialog: dialog.accept("s3cret"))
    page.goto(running.url)
    page.locator("#model", has_text="tiny").wait_for()
