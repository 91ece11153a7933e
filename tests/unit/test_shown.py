"""What pages show, and what the code does not use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.kafka.settings import KafkaSettings
from bridge.model.settings import Secret
from services.control.api.access import Tokens
from services.control.pages.frame import Frame
from tests.every_setting import EVERY_SETTINGS
from tests.unit.control_app import AT, bearer, build, client, read_archive

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
STATIC = Frame.folder / "static"
HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


@pytest.fixture
def app(token: str, tmp_path: Path) -> Any:
    return build(tmp_path / "tokens")


async def test_what_pages_show_is_escaped_and_never_a_template(token: str, tmp_path: Path) -> None:
    app = build(
        tmp_path / "tokens", ORG_NAME=HOSTILE, INSTANCE_NAME=HOSTILE, CONTROL_INSTANCES='x=https://a.example/"onload=javascript:alert(1)'
    )
    async with client(app, **bearer(token)) as http:
        pages = [await http.get("/workflows/ingress/tables/" + "".join(f"%{ord(each):02x}" for each in HOSTILE)), await http.get("/")]

    for page in pages:
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert "<img src=x" not in page.text and "&lt;img src=x" in page.text
        assert "{{7*7}}" in page.text
        assert '"onload=' not in page.text


async def test_pages_hold_no_script_and_no_address_of_others(app: Any, token: str) -> None:
    async with client(app, **bearer(token)) as http:
        pages = [(await http.get(path)).text for path in ("/", "/settings", "/audit", "/workflows/ingress", "/workflows/optin")]

    for page in pages:
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), "inline script"
        assert not re.search(r"<[^>]+\s(on\w+|style)=", page), "inline handler or style"
        assert not re.search(r"<(script|link|img|iframe|form)[^>]+(src|href|action)=\"(?!/(?!/))", page), "foreign address"


def test_scripts_make_no_markup_from_text_and_keep_nothing_but_settings() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|postMessage|indexedDB|document\.cookie"
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(forbidden, text), path.name
        assert set(re.findall(r"(?:local|session)Storage\.setItem\(\s*\"([\w-]+)\"", text)) <= set(re.findall(r"`(bridge-[\w-]+)`", TEXT))
        assert len(re.findall(r"Storage\.setItem\(", text)) == len(re.findall(r"Storage\.setItem\(\s*\"", text)), path.name


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Of the services; the command line runs on the operator's own machine."""
    for folder in ("bridge", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    found = {each.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    return found | {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_no_command_of_the_system_no_eval_no_unsafe_reader() -> None:
    dangerous = {"subprocess", "pickle", "marshal", "shelve", "pty", "xml", "lxml", "ldap", "code", "runpy"}
    for name, tree in modules():
        assert not imported(tree) & dangerous, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "yaml.load"), f"{name}: {called}"


def test_every_use_of_cryptography_is_in_the_inventory() -> None:
    told = TEXT.partition("\n## Keys and algorithms\n")[2].partition("\n## ")[0]
    using = {name for name, tree in modules() if imported(tree) & {"hashlib", "hmac", "secrets", "ssl", "cryptography", "Crypto", "jwt"}}
    hashes = {node.attr for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _of_hashlib(node)}

    assert using
    assert {name for name in using if f"`{name}`" not in told} == set()
    assert hashes == {"sha256", "blake2b"}


def _of_hashlib(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "hashlib"


def test_queries_take_what_is_asked_for_as_values() -> None:
    archive = read_archive()
    archive._db.execute("INSERT INTO marks VALUES ('ingress', '0-1', 'discarded')")
    for text in ("' OR '1'='1", "x'; DROP TABLE marks; --", '" OR 1=1 --'):
        assert archive.letters("ingress", None, 10, text) == []
        assert archive.count("ingress", text) == 0
        assert archive.of_key("ingress", text) == []
        assert archive.open("ingress", text) == []
    assert archive._db.execute("SELECT count(*) FROM marks").fetchone()[0] == 1
    archive.close()


def test_no_secret_has_a_value_out_of_the_box() -> None:
    found = [info for room in EVERY_SETTINGS for info in room.model_fields.values() if info.annotation is Secret]

    assert len(found) >= 4
    assert not [info.alias for info in found if not info.is_required() and info.get_default(call_default_factory=True).value()]
    assert not KafkaSettings().librdkafka
