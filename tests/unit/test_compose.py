"""The compose files and the image's recipe: complete, hardened, pinned, and with variables that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import __version__

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "docker-compose.yml"
FILES = [MAIN, *sorted((ROOT / "deploy").glob("compose.*.yml"))]
STAND_INS = {"dynamics", "campaign"}
FOREIGN = {"kafka", "kafka-2", "kafka-3", "registry", "prometheus", "grafana"}  # images of others
THEIRS = re.compile(r"^(CLUSTER_ID|KAFKA_|APICURIO_|QUARKUS_|GF_)")
# of compose files and images, not of the services
DEPLOYMENT = {
    *("BRIDGE_VERSION", "SETTINGS_FILE", "SECRETS_DIR", "COMPOSE_PROFILES", "BROKER_HEAP"),
    *("CONTROL_PUBLISH", "GRAFANA_PUBLISH", "HEALTH_URL"),
}
METRICS = {"METRICS_HOST", "METRICS_PORT"}
SECRETS = re.compile(r"SECRET|PASSWORD|_KEY\b|_KEY$|DIGEST|TOKENS|KNOWN_HOSTS")


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def services(path: Path = MAIN) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = loaded(path)["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services().items() if name not in FOREIGN}


def made_here() -> list[tuple[str, dict[str, Any]]]:
    """Every service that is defined, not merely changed, in one of the files."""
    return [(f"{path.name}: {name}", each) for path in FILES for name, each in services(path).items() if "image" in each]


def settings() -> set[str]:
    """Variables of docs/settings.md, and the same with `_FILE` where a secret may come so."""
    rows = re.findall(r"^\| `([A-Z_]+)(\(_FILE\))?` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    return {name for name, _ in rows} | {f"{name}_FILE" for name, file in rows if file}


def known(name: str) -> bool:
    return name in settings() | DEPLOYMENT | METRICS or name.startswith(("KAFKA_SASL_", "KAFKA_SSL_", "KAFKA_SECURITY_"))


def test_every_role_of_the_product_has_a_service_and_no_other_has() -> None:
    roles = {
        f"{path.parent.name}-{path.stem}"
        for path in (ROOT / "services").glob("*/*.py")
        if 'if __name__ == "__main__"' in path.read_text() and path.parent.name != "control"
    }

    assert set(ours()) == roles | {"control"} | STAND_INS
    for name in roles:
        workflow, role = name.split("-")
        assert ours()[name]["command"] == ["python", "-m", f"services.{workflow}.{role}"]


def test_only_control_publishes_a_port_and_only_on_this_machine_unless_told() -> None:
    published = {name: each["ports"] for path in FILES for name, each in services(path).items() if "ports" in each}

    assert published.pop("control") == ["${CONTROL_PUBLISH:-127.0.0.1:8080}:8080"]
    assert published == {"grafana": ["${GRAFANA_PUBLISH:-127.0.0.1:3000}:3000"]}  # with the monitoring file only
    assert not any("network_mode" in each for path in FILES for each in services(path).values())


@pytest.mark.parametrize(("name", "service"), made_here())
def test_every_service_has_limits_log_rotation_and_a_pinned_image(name: str, service: dict[str, Any]) -> None:
    assert service["mem_limit"]
    assert service["cpus"]
    assert service["logging"]["driver"] == "json-file"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["restart"] == "unless-stopped"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":(v?\d+\.\d+\.\d+|\$\{BRIDGE_VERSION:-\d+\.\d+\.\d+\})$", service["image"])


@pytest.mark.parametrize("name", sorted(ours()))
def test_ours_write_nowhere_but_to_tmp_and_their_state(name: str) -> None:
    service = ours()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [each.split(":")[0] for each in service["tmpfs"]] == ["/tmp"]
    assert "/var/lib/bridge" in service["volumes"]  # anonymous: of each container its own, so that roles scale
    writable = [each for each in service["volumes"] if ":" in each and not each.endswith(":ro")]
    assert writable == (["sandbox-sftp:/var/lib/sandbox-sftp"] if name == "campaign" else [])


@pytest.mark.parametrize("name", sorted(ours()))
def test_replicas_name_themselves(name: str) -> None:
    assert not {"container_name", "hostname"} & set(ours()[name])
    assert "INSTANCE_ID" not in ours()[name].get("environment", {})


def test_services_wait_by_themselves() -> None:
    assert not any("depends_on" in each for path in FILES for each in services(path).values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_every_secret_comes_as_a_file(path: Path) -> None:
    declared = set(loaded(MAIN).get("secrets", {})) | set(loaded(path).get("secrets", {}))
    for name, service in services(path).items():
        mounted = {f"/run/secrets/{each}" for each in service.get("secrets", [])}
        used = {
            str(value).split(":-")[-1].rstrip("}") for variable, value in service.get("environment", {}).items() if SECRETS.search(variable)
        }
        files = {value for value in used if value.startswith("/run/secrets/")}
        assert used == files, name
        assert files <= mounted, name
        assert set(service.get("secrets", [])) <= declared
    folder = "deploy/sandbox/${DYNAMICS_URL:+../../}secrets" if path == MAIN else "./secrets"
    for name, each in loaded(path).get("secrets", {}).items():
        assert each == {"file": f"${{SECRETS_DIR:-{folder}}}/{name}"}


def test_the_demo_has_every_secret_of_the_main_file() -> None:
    folder = ROOT / "deploy/sandbox/secrets"

    assert {path.name for path in folder.iterdir()} == set(loaded(MAIN)["secrets"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_every_variable_of_a_service_is_one_it_knows(path: Path) -> None:
    for name, service in services(path).items():
        for variable in service.get("environment", {}):
            assert THEIRS.match(variable) if name in FOREIGN else known(variable), f"{name}: {variable}"
    asked = set(re.findall(r"\$\{([A-Z_]+)", path.read_text()))
    assert {each for each in asked if not known(each)} == set()


@pytest.mark.parametrize("path", [ROOT / ".env.example", ROOT / "deploy/sandbox/.env"], ids=lambda path: str(path.name))
def test_every_variable_of_an_env_file_is_one_somebody_knows(path: Path) -> None:
    listed = re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", path.read_text(), re.MULTILINE)

    assert listed
    assert {each for each in listed if not known(each)} == set()


def test_everything_that_must_be_filled_in_is_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    needed = {each for path in FILES for each in re.findall(r"\$\{([A-Z_]+):\?", path.read_text())}

    assert needed
    assert {each for each in needed if f"{each}=" not in example} == set()
    secrets = {name for path in FILES for name in loaded(path).get("secrets", {})}
    assert {each for each in secrets if each not in example} == set()


def test_the_image_is_made_of_locked_parts_and_runs_as_nobody_in_particular() -> None:
    recipe = (ROOT / "Dockerfile").read_text()

    assert set(re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)) == {"python:3.11-slim", "base"}
    assert "--require-hashes" in recipe
    assert recipe.rstrip().rpartition("USER ")[2].startswith("10001:10001")
    assert "HEALTHCHECK" in recipe
    assert "org.opencontainers.image.version" in recipe
    assert "apt-get" not in recipe


def test_nothing_goes_to_the_builder_but_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert "*" in lines
    assert {each[1:] for each in lines if each.startswith("!")} == {
        "LICENSE",
        "requirements.lock",
        "schemas",
        "bridge",
        "services",
        "cli",
        "sandbox",
    }


def test_the_version_is_the_same_everywhere() -> None:
    named = set(re.findall(r"BRIDGE_VERSION:-([^}]+)\}", MAIN.read_text()))
    named |= set(re.findall(r"^ARG VERSION=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    named |= set(re.findall(r"^BRIDGE_VERSION=(\S+)", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert named == {__version__}
