"""The pages' frame: where the header leads, and that templates hold together and escape what they are given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.model.clock import SystemClock
from services.control.api.access import Access, Principal
from services.control.pages.frame import Frame, Link, places
from services.control.pages.labels import SETTINGS
from services.control.settings import ControlSettings
from tests.every_setting import EVERY_SETTINGS

FOLDER = Frame.folder
ANNA = Principal("Anna <b>", "operator")


def frame(**settings: str) -> Frame:
    return Frame(ControlSettings(**settings), Access(None, SystemClock()))


def page(template: str = "audit.html") -> str:
    return bytes(frame(org_name='Org "&"').page(template, ANNA, [Link("Workflows", "/"), Link("Audit")]).body).decode()


def test_without_other_instances_the_header_leads_nowhere() -> None:
    assert places("", "Org").instances == []


def test_an_instance_is_a_name_and_an_address() -> None:
    found = places("production = https://one.example.com , dev=http://two.example.com", "Org")

    assert found.instances == [Link("production", "https://one.example.com"), Link("dev", "http://two.example.com")]
    assert found.orgs == []


def test_an_instance_of_another_organisation_is_found_under_that_one() -> None:
    found = places("Org/dev=https://one.example.com,Other/stage=https://two.example.com,Other/dev=https://three.example.com", "Org")

    assert found.instances == [Link("dev", "https://one.example.com")]
    assert found.orgs == [Link("Other", "https://two.example.com")]


def test_what_is_no_address_of_the_web_does_not_become_a_link() -> None:
    assert places("evil=javascript:alert(1),nothing,=https://x.example.com", "Org") == places("", "Org")


def test_names_are_escaped() -> None:
    assert "Anna &lt;b&gt;" in page() and "Org &#34;&amp;&#34;" in page()


def test_the_page_itself_is_the_last_crumb_and_no_link() -> None:
    assert '<a href="/">Workflows</a>' in page() and '<span aria-current="page">Audit</span>' in page()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("templates/*.html")), ids=lambda path: path.name)
def test_templates_have_neither_inline_script_nor_style_nor_foreign_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=\"/static/)", text) == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", text) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("static/*.js")), ids=lambda path: path.name)
def test_scripts_put_data_in_as_text_and_import_only_what_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text) == []
    assert [name for name in re.findall(r"from \"\./(.*?)\"", text) if not (FOLDER / "static" / name).exists()] == []


def test_every_drawing_that_is_used_is_there() -> None:
    drawn = set(re.findall(r'id="i-(\w+)"', (FOLDER / "templates" / "icons.html").read_text(encoding="utf-8")))
    used = {name for path in FOLDER.glob("templates/*.html") for name in re.findall(r"icon\('(\w+)'\)", path.read_text(encoding="utf-8"))}

    assert used <= drawn


def test_the_settings_page_names_variables_that_exist() -> None:
    known = {info.alias for room in EVERY_SETTINGS for info in room.model_fields.values()}
    named = {setting.variable for section in SETTINGS for setting in section.settings if setting.variable}

    assert named <= known
