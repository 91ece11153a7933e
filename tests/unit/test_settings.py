"""bridge.model.settings: defaults, problems told all at once, secrets never shown (environment.md)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.campaign.settings import CampaignSettings, ExportSettings, JournalSettings
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.settings import WriterSettings
from bridge.kafka.client import check_settings
from bridge.kafka.settings import KafkaSettings
from bridge.model.settings import Secret, SettingsError, load, load_all
from bridge.observe.settings import ServiceSettings
from services.control.settings import ControlSettings
from tests.every_setting import EVERY_SETTINGS

CANARY = "s3cret-value"
DYNAMICS = {
    "DYNAMICS_URL": "https://org.api.crm.dynamics.com",
    "DYNAMICS_TENANT_ID": "tenant-1",
    "DYNAMICS_CLIENT_ID": "client-1",
    "DYNAMICS_CLIENT_SECRET": CANARY,
}
CAMPAIGN = {
    "CAMPAIGN_URL": "https://mc.adobe.io/acme",
    "CAMPAIGN_CLIENT_ID": "client-2",
    "CAMPAIGN_CLIENT_SECRET": CANARY,
    "CAMPAIGN_ORG_ID": "acme@AdobeOrg",
    "CAMPAIGN_JOURNAL_URL": "https://events-va6.adobe.io/events/organizations/1/integrations/2/3",
    "CAMPAIGN_SFTP_HOST": "acme.campaign.adobe.com",
    "CAMPAIGN_SFTP_USER": "acme",
    "CAMPAIGN_SFTP_KEY_FILE": "/run/secrets/sftp-key",
    "CAMPAIGN_SFTP_KNOWN_HOSTS_FILE": "/run/secrets/known-hosts",
}
VARIABLES = [info.alias for room in EVERY_SETTINGS for info in room.model_fields.values() if info.alias]
TEXTS = [
    info.alias for room in EVERY_SETTINGS for info in room.model_fields.values() if info.alias and info.annotation is not Secret
]  # fmt: skip


def problems(*rooms: type, env: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_all(*rooms, env=env)
    return caught.value.problems


def test_kafka_has_the_documented_defaults() -> None:
    kafka = load(KafkaSettings, {})

    assert (kafka.bootstrap_servers, kafka.registry_url) == ("localhost:9092", "http://localhost:8081")
    assert (kafka.topic_prefix, kafka.partitions, kafka.replication_factor) == ("", 6, 1)
    assert kafka.client() == {"bootstrap.servers": "localhost:9092"}


def test_a_service_has_the_documented_defaults() -> None:
    service = load(ServiceSettings, {})

    assert (service.instance_id, service.state_dir, service.log_level) == (socket.gethostname(), Path("./var"), "info")


def test_dynamics_has_the_documented_defaults() -> None:
    dynamics = load(DynamicsSettings, DYNAMICS)

    assert (dynamics.poll_interval_s, dynamics.page_size, dynamics.concurrency) == (5, 5000, 16)
    assert dynamics.token_url == "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token"


def test_the_zone_of_dynamics_is_utc_unless_it_is_named() -> None:
    assert load(DynamicsSettings, DYNAMICS).zone is None
    assert load(DynamicsSettings, DYNAMICS | {"DYNAMICS_TIME_ZONE": "Europe/Berlin"}).zone == ZoneInfo("Europe/Berlin")
    with pytest.raises(SettingsError) as caught:
        load(DynamicsSettings, DYNAMICS | {"DYNAMICS_TIME_ZONE": "Berlin"})
    assert "DYNAMICS_TIME_ZONE" in str(caught.value)


def test_campaign_has_the_documented_defaults() -> None:
    campaign = load(CampaignSettings, CAMPAIGN)

    assert campaign.token_url == "https://ims-na1.adobelogin.com/ims/token/v3"
    assert (campaign.concurrency, campaign.calls_per_second) == (16, 0)
    assert "campaign_sdk" in campaign.scopes.split(",")


def test_control_has_the_documented_defaults() -> None:
    control = load(ControlSettings, {})

    assert (control.host, control.port) == ("127.0.0.1", 8080)


def test_the_token_url_can_be_set_and_an_empty_variable_is_none() -> None:
    assert load(DynamicsSettings, DYNAMICS | {"DYNAMICS_TOKEN_URL": "http://127.0.0.1:1/t"}).token_url == "http://127.0.0.1:1/t"
    assert "tenant-1" in load(DynamicsSettings, DYNAMICS | {"DYNAMICS_TOKEN_URL": ""}).token_url


def test_settings_made_in_code_have_the_same_token_url() -> None:
    by_name = {"url": "https://org.example", "tenant_id": "tenant-1", "client_id": "c", "client_secret": Secret("s")}

    assert make(by_name).token_url == "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token"
    assert make(by_name | {"token_url": "https://login.example"}).token_url == "https://login.example"


def make(by_name: dict[str, Any]) -> DynamicsSettings:
    return DynamicsSettings(**by_name)


def test_a_slash_at_the_end_of_a_url_is_dropped() -> None:
    assert load(CampaignSettings, CAMPAIGN | {"CAMPAIGN_URL": "https://mc.adobe.io/acme/"}).url == "https://mc.adobe.io/acme"


def test_every_missing_variable_is_named_at_once() -> None:
    told = problems(DynamicsSettings, CampaignSettings, JournalSettings, ExportSettings, env={})

    assert {line.partition(":")[0] for line in told} == set(DYNAMICS) | set(CAMPAIGN)
    assert all("missing" in line for line in told)


def test_every_wrong_value_is_named_at_once_with_what_is_allowed() -> None:
    env = DYNAMICS | CAMPAIGN | {"PARTITIONS": "none", "DYNAMICS_CONCURRENCY": "53", "CAMPAIGN_URL": "mc.adobe.io", "LOG_LEVEL": "loud"}

    told = problems(KafkaSettings, ServiceSettings, DynamicsSettings, CampaignSettings, WriterSettings, env=env)

    by_name = {line.partition(":")[0]: line for line in told}
    assert set(by_name) == {"PARTITIONS", "DYNAMICS_CONCURRENCY", "CAMPAIGN_URL", "LOG_LEVEL"}
    assert "52" in by_name["DYNAMICS_CONCURRENCY"]
    assert "https://" in by_name["CAMPAIGN_URL"]
    assert "debug" in by_name["LOG_LEVEL"]


def test_the_error_has_one_line_per_problem() -> None:
    with pytest.raises(SettingsError) as caught:
        load(DynamicsSettings, {})

    assert str(caught.value).splitlines() == caught.value.problems


@given(st.sampled_from(TEXTS), st.text(min_size=1).map(lambda text: f"{CANARY} {text}"))
def test_a_wrong_value_is_never_shown_for_it_may_be_a_secret_in_the_wrong_place(variable: str, value: str) -> None:
    told = ""
    try:
        load_all(*EVERY_SETTINGS, env=DYNAMICS | CAMPAIGN | {variable: value})
    except SettingsError as error:
        told = str(error)

    assert CANARY not in told


def test_a_tenant_that_makes_no_url_is_the_variable_that_is_named() -> None:
    told = problems(DynamicsSettings, env=DYNAMICS | {"DYNAMICS_TENANT_ID": "two words"})

    assert [line.partition(":")[0] for line in told] == ["DYNAMICS_TENANT_ID"]


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    env = {name: value for name, value in DYNAMICS.items() if name != "DYNAMICS_CLIENT_SECRET"}

    dynamics = load(DynamicsSettings, env | {"DYNAMICS_CLIENT_SECRET_FILE": str(file)})

    assert dynamics.client_secret.value() == "from-a-file"


def test_a_secret_from_a_file_is_read_again_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    secret = Secret(path=file)

    unchanged = secret.reload()
    file.write_text("new")
    changed = secret.reload()
    file.unlink()

    assert (unchanged, changed, secret.reload(), secret.value()) == (False, True, False, "new")


@pytest.mark.parametrize("variable", ["DYNAMICS_CLIENT_SECRET", "CAMPAIGN_CLIENT_SECRET", "SCHEMA_REGISTRY_PASSWORD"])
def test_a_secrets_file_that_cannot_be_read_is_named_once(variable: str, tmp_path: Path) -> None:
    env = {name: value for name, value in (DYNAMICS | CAMPAIGN).items() if name != variable}

    told = problems(*EVERY_SETTINGS, env=env | {f"{variable}_FILE": str(tmp_path / "nowhere")})

    assert len(told) == 1
    assert told[0].startswith(f"{variable}_FILE:")


def test_a_file_of_kafkas_password_that_cannot_be_read_is_a_named_problem(tmp_path: Path) -> None:
    told = problems(KafkaSettings, DynamicsSettings, env={"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "nowhere")})

    assert any(line.startswith("KAFKA_SASL_PASSWORD_FILE") for line in told)
    assert any(line.startswith("DYNAMICS_URL") for line in told)


def test_any_librdkafka_property_is_a_variable_with_underscores(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-a-file\n")
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": "one:9092,two:9092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "bridge",
        "KAFKA_SASL_PASSWORD_FILE": str(file),
        "KAFKA_SSL_CA_LOCATION": "/etc/ca.pem",
        "UNRELATED": "x",
    }

    assert load(KafkaSettings, env).client(group_id="g") == {
        "bootstrap.servers": "one:9092,two:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "bridge",
        "sasl.password": "from-a-file",
        "ssl.ca.location": "/etc/ca.pem",
        "group.id": "g",
    }


@pytest.mark.parametrize("room", EVERY_SETTINGS)
def test_no_secret_is_in_the_repr_of_its_settings(room: type) -> None:
    env = DYNAMICS | CAMPAIGN | {"SCHEMA_REGISTRY_PASSWORD": CANARY, "STATE_DIGEST_KEY": CANARY}

    (settings,) = load_all(room, env=env)

    assert CANARY not in f"{settings!r} {settings}"


@pytest.mark.parametrize("variable", ["KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD", "KAFKA_SSL_KEY_PEM"])
def test_no_secret_of_kafka_is_in_the_repr_either(variable: str) -> None:
    kafka = load(KafkaSettings, {variable: CANARY})

    assert CANARY not in f"{kafka!r} {kafka}"


def test_a_secret_tells_only_whether_it_is_set() -> None:
    assert (repr(Secret(CANARY)), str(Secret())) == ("Secret(set)", "Secret(unset)")


def test_settings_are_frozen() -> None:
    kafka = load(KafkaSettings, {})

    with pytest.raises(ValueError, match="frozen"):
        kafka.partitions = 7  # type: ignore[misc]


def test_every_setting_has_a_variable_of_its_own_and_a_meaning() -> None:
    twice = {name for name in VARIABLES if VARIABLES.count(name) > 1}

    assert twice == {"STATE_DIGEST_KEY"}  # of the ingress writer, which has a default of its own, and of the resolver
    assert all(info.description for room in EVERY_SETTINGS for info in room.model_fields.values())


@pytest.mark.parametrize(
    ("room", "variable", "value"),
    [
        (KafkaSettings, "KAFKA_BOOTSTRAP_SERVERS", "not a host"),
        (KafkaSettings, "KAFKA_BOOTSTRAP_SERVERS", "localhost:notaport"),
        (KafkaSettings, "KAFKA_BOOTSTRAP_SERVERS", "localhost:9092,"),
        (KafkaSettings, "KAFKA_BOOTSTRAP_SERVERS", "localhost:99999"),
        (KafkaSettings, "SCHEMA_REGISTRY_URL", "http://:8081"),
        (DynamicsSettings, "DYNAMICS_URL", "https://x:port"),
        (ExportSettings, "CAMPAIGN_EXPORT_ENCODING", "klingon"),
        (ControlSettings, "CONTROL_INSTANCES", "garbage"),
    ],
)
def test_a_value_that_can_never_work_is_named_at_once(room: type, variable: str, value: str) -> None:
    sftp = {f"CAMPAIGN_SFTP_{name}": "x" for name in ("HOST", "USER", "KEY_FILE", "KNOWN_HOSTS_FILE")}

    (told,) = problems(room, env=DYNAMICS | CAMPAIGN | sftp | {variable: value})

    assert told.startswith(f"{variable}: ")
    assert f"text of {len(value)} characters" in told


@pytest.mark.parametrize("value", ["a", "a:1,b:2", "a-b.example.com:9092", "SASL_SSL://a:9093", "[::1]:9092, 10.0.0.1:9092"])
def test_servers_as_librdkafka_takes_them(value: str) -> None:
    assert load(KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": value}).bootstrap_servers == value


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")

    told = problems(
        DynamicsSettings, env={**DYNAMICS, "DYNAMICS_CLIENT_SECRET": "", "DYNAMICS_CLIENT_SECRET_FILE": str(tmp_path / "secret")}
    )

    assert [line.partition(":")[0] for line in told] == ["DYNAMICS_CLIENT_SECRET_FILE"]


@pytest.mark.parametrize(
    ("given", "named", "allowed"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "FOO"}, "KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "/nope.pem"}, "KAFKA_SSL_CA_LOCATION", "PEM"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "FOO"}, "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"),
        ({"KAFKA_NONSENSE_PROP": "1"}, "KAFKA_NONSENSE_PROP", "CONFIGURATION.md"),
    ],
)
def test_what_librdkafka_does_not_take_is_named_with_what_is_allowed(given: dict[str, str], named: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_settings(load(KafkaSettings, given))

    (line,) = refused.value.problems
    assert line.startswith(f"{named}: ")
    assert allowed in line
    assert not [value for value in given.values() if len(value) > 3 and f" {value} " in line]


@pytest.mark.parametrize("url", [f"https://x:{CANARY}", f"https://[{CANARY}", f"https://[{CANARY}]:443"])
def test_an_address_that_is_none_is_not_shown(url: str) -> None:
    (told,) = problems(DynamicsSettings, env=DYNAMICS | {"DYNAMICS_URL": url})

    assert told.startswith("DYNAMICS_URL: ")
    assert CANARY not in told


def test_a_property_that_librdkafka_names_otherwise_is_one_of_those_that_were_given() -> None:
    with pytest.raises(SettingsError) as refused:
        check_settings(load(KafkaSettings, {"KAFKA_LINGER_MS": "soon"}))

    assert "linger.ms" in refused.value.problems[0]


def test_a_comma_too_many_names_no_further_instance() -> None:
    assert load(ControlSettings, {"CONTROL_INSTANCES": "a=https://a.example,"}).instances == "a=https://a.example,"
