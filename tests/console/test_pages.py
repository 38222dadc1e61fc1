"""The pages: what they list, what they hide, and that nothing in them runs but our own files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from visits import Page, get

import modelmill.console

ROOMS = Path(modelmill.console.__file__).parent


def test_the_first_page_lists_what_is_served_and_only_that(site):
    code, _, text = get(f"{site}/")
    assert code == 200
    assert 'href="/models/flowers"' in text
    assert "/models/hidden" not in text
    assert "3 models are served" in text


def test_a_model_has_a_page_and_each_of_its_versions_too(site):
    assert "version 1" in get(f"{site}/models/flowers")[2]
    text = get(f"{site}/models/flowers@2")[2]
    assert 'data-reference="flowers@2"' in text
    assert "not the version" in text
    assert 'href="/api/models/flowers/report"' in get(f"{site}/models/flowers")[2]


ABSENT = ("/models/nobody", "/models/hidden", "/models/flowers@9", "/x/y", "/static/../pages.py", "/static/pages.py")


@pytest.mark.parametrize("path", ABSENT)
def test_what_is_not_there_is_a_page_that_says_so(site, path):
    code, headers, text = get(site + path)
    assert code == 404
    assert headers["content-type"].startswith("text/html")
    assert "See the models" in text


@pytest.mark.parametrize("path", [*ABSENT, "/runs/1"])
def test_programs_are_told_in_json_what_is_not_there(site, path):
    code, headers, text = get(site + path, accept="*/*")
    assert (code, headers["content-type"]) == (404, "application/json")
    assert json.loads(text) == {"error": f"no such path: {path}. See /docs."}


def test_only_get_is_for_pages(site):
    assert get(f"{site}/", "POST")[0] == 405


@pytest.mark.parametrize("path", ["/", "/models/flowers", "/models/pictures", "/models/none"])
def test_pages_hold_no_script_and_no_style_of_their_own_and_reach_no_other_host(site, path):
    _, headers, text = get(site + path)
    page = Page(text)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert page.inline == []
    assert all(link.startswith(("/", "#")) for link in page.links)
    assert set(page.labels) <= set(page.ids)


def test_files_of_pages_reach_no_other_host(site):
    for path in (ROOMS / "static").iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), path
        assert get(f"{site}/static/{path.name}")[0] == 200


def test_names_from_data_are_text_and_never_markup(site):
    text = get(f"{site}/models/hostile")[2]
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text.lower()


def test_an_empty_service_says_how_to_fill_it(tmp_path):
    from modelmill.console.pages import Pages
    from modelmill.registry.registry import Registry
    from modelmill.serve.server import Service
    from modelmill.store.home import Home

    place = Home(tmp_path)
    registry = Registry(place.database, place.blobs)
    with Service(registry, pages=Pages(registry)) as service:
        assert "modelmill build" in get(f"{service.url}/")[2]
