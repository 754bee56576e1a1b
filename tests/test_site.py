"""The site of the documentation: `make site`."""

import json
import subprocess
import sys

import pytest
from support.process import edit
from support.template import ROOT, copy_template

# The elements that a selector finds in the search, which is in a shadow root.
FOUND = """[...document.querySelectorAll("*")]
  .flatMap(element => [...element.shadowRoot?.querySelectorAll(SELECTOR) ?? []])"""


def wait_for(browser, selector, value):
    """Wait until a selector finds something in the search. Return a value of each found element."""
    found = FOUND.replace("SELECTOR", json.dumps(selector))
    look = f"const look = () => {found}.length ? done({found}.map(found => {value})) : requestAnimationFrame(look)"
    return browser.evaluate(f"new Promise(done => {{ {look}; look(); }})")


def build(root, site):
    return subprocess.run([sys.executable, root / "docs/build_site.py", site], text=True, capture_output=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_search_works_without_a_network(site, browser):
    browser.resize(1200, 800)
    browser.open(site / "index.html")
    browser.click(".md-search__button")
    wait_for(browser, "input:focus", "found.value")
    browser.type("afterok")
    links = wait_for(browser, "[role=option]", "found.href")
    assert any(link.startswith((site / "submitting.html").as_uri()) for link in links), links
    assert browser.problems == []


def test_site_reference_lists_every_command(site):
    texts = {entry["location"]: entry["text"] for entry in json.loads((site / "search.json").read_text())["items"]}
    assert "--vcs-ref REF" in texts["reference/experiments.html#update"]
    assert "--prune" in texts["reference/submit.html"]


def test_site_with_a_wrong_page_is_not_built(tmp_path):
    template = copy_template(tmp_path)
    (template.path / "docs/new.md").write_text("# New\n")
    done = build(template.path, tmp_path / "site")
    assert done.stderr.startswith("build_site.py: new.md is not in the navigation.")
    (template.path / "docs/new.md").unlink()
    edit(template.path / "docs/runs.md", "(submitting.md)", "(submitting.md#nowhere)")
    done = build(template.path, tmp_path / "site")
    assert done.returncode and "anchor does not exist" in done.stderr
    assert not (tmp_path / "site").exists()
