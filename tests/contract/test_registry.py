"""The schema registry: the twin in memory and the real one."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiohttp import BasicAuth, web

from bridge.kafka.avro import Registry, load_schema
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.memory import MemoryRegistry
from bridge.model.errors import HaltError, RejectError, RetryError
from bridge.model.settings import load
from sandbox.web import serving
from tests.contract.broker import nowhere


def schema(*fields: str, kind: Any = "string") -> dict[str, Any]:
    return {"type": "record", "name": "Thing", "namespace": "test", "fields": [{"name": name, "type": kind} for name in fields]}


@pytest.fixture
def subject() -> str:
    return f"{uuid.uuid4().hex}-value"


class RegistryContract:
    def test_registering_twice_gives_the_same_id(self, registry: Registry, subject: str) -> None:
        assert registry.register(subject, schema("a")) == registry.register(subject, schema("a"))

    def test_another_schema_gets_another_id(self, registry: Registry, subject: str) -> None:
        other = {**schema("a"), "fields": [*schema("a")["fields"], {"name": "b", "type": "string", "default": ""}]}

        assert registry.register(subject, schema("a")) != registry.register(subject, other)

    def test_a_registered_schema_is_given_by_its_id(self, registry: Registry, subject: str) -> None:
        number = registry.register(subject, load_schema("ChangeEvent"))

        assert registry.schema(number) == load_schema("ChangeEvent")

    def test_an_id_nobody_registered_is_a_reject(self, registry: Registry) -> None:
        with pytest.raises(RejectError) as caught:
            registry.schema(2_000_000_000)

        assert (caught.value.code, caught.value.stage) == ("unknown_schema", "decode")

    def test_a_schema_that_cannot_read_the_last_one_halts(self, registry: Registry, subject: str) -> None:
        registry.register(subject, schema("a"))

        with pytest.raises(HaltError) as caught:
            registry.register(subject, schema("a", "b"))

        assert caught.value.code == "schema_incompatible"


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        return MemoryRegistry()

    @pytest.mark.xfail(strict=True, reason="the twin does not compare schemas")
    def test_a_schema_that_cannot_read_the_last_one_halts(self, registry: Registry, subject: str) -> None:
        super().test_a_schema_that_cannot_read_the_last_one_halts(registry, subject)


class TestHttpRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, kafka_settings: KafkaSettings) -> HttpRegistry:
        return HttpRegistry(kafka_settings, patience_s=0)

    def test_another_process_gets_the_same_id(self, registry: HttpRegistry, kafka_settings: KafkaSettings, subject: str) -> None:
        assert registry.register(subject, schema("a")) == HttpRegistry(kafka_settings).register(subject, schema("a"))

    def test_a_registry_that_is_away_is_a_retry(self, kafka_settings: KafkaSettings, subject: str) -> None:
        away = HttpRegistry(nowhere(kafka_settings))

        for call in (lambda: away.register(subject, schema("a")), lambda: away.schema(1)):
            with pytest.raises(RetryError) as caught:
                call()
            assert caught.value.code == "registry_unavailable"

    def test_an_address_without_the_api_is_waited_for_and_the_setting_named(self, kafka_settings: KafkaSettings, subject: str) -> None:
        wrong = kafka_settings.model_copy(update={"registry_url": kafka_settings.registry_url + "/nothing-here"})

        with pytest.raises(RetryError) as caught:
            HttpRegistry(wrong).register(subject, schema("a"))

        assert caught.value.code == "registry_unavailable"
        assert "SCHEMA_REGISTRY_URL" in str(caught.value)


async def test_instances_that_start_together_all_get_the_same_id(kafka_settings: KafkaSettings) -> None:
    """Seen with two readers: Apicurio answers 409 to the second that sets the compatibility of a new subject."""
    subject, schema = f"{kafka_settings.topic_prefix}together-value", load_schema("ChangeEvent")

    ids = await asyncio.gather(*(asyncio.to_thread(HttpRegistry(kafka_settings).register, subject, schema) for _ in range(6)))

    assert len(set(ids)) == 1


async def test_a_password_that_is_refused_is_read_again_from_its_file(tmp_path: Path) -> None:
    """What it is refused with twice is a refusal."""
    valid, asked = ["old"], list[str]()

    async def answer(request: web.Request) -> web.Response:
        word = BasicAuth.decode(request.headers["Authorization"]).password
        asked.append(word)
        return web.json_response({"schema": '"string"'}) if word == valid[0] else web.Response(status=401)

    app = web.Application()
    app.router.add_get("/schemas/ids/{id}", answer)
    file = tmp_path / "password"
    file.write_text("old")
    async with serving(app) as url:
        env = {"SCHEMA_REGISTRY_URL": url, "SCHEMA_REGISTRY_USERNAME": "us", "SCHEMA_REGISTRY_PASSWORD_FILE": str(file)}
        registry = HttpRegistry(load(KafkaSettings, env))
        await asyncio.to_thread(registry.schema, 1)
        valid[0] = "new"
        file.write_text("new")
        assert await asyncio.to_thread(registry.schema, 2) == "string"
        valid[0] = "newer"
        with pytest.raises(HaltError) as refused:
            await asyncio.to_thread(registry.schema, 3)

    assert asked == ["old", "old", "new", "new"]
    assert refused.value.code == "registry_refused"
