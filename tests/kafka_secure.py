"""A real Kafka that asks for TLS, a password and ACLs: certificates made for the moment, a user for each service, `admin` above all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
ROLES = {"ingress": ("reader", "writer"), "egress": ("reader", "writer"), "optin": ("reader", "resolver", "writer")}
USERS = ["control", *(f"{workflow}-{role}" for workflow, roles in ROLES.items() for role in roles)]
ROW = re.compile(r"^\| (.+) \| (topic|group|transactional id) \| (.+) \| (literal|prefixed) \| (.+) \|$", re.MULTILINE)
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional id": ResourceType.TRANSACTIONAL_ID}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefixed": ResourcePatternType.PREFIXED}
B = TypeVar("B", AclBinding, AclBindingFilter)
WORD = re.compile(r"(?<!^)(?=[A-Z])")
SECURE = """\
listeners=SASL_SSL://127.0.0.1:{port},ELSEWHERE://127.0.0.1:{elsewhere},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_SSL://localhost:{port},ELSEWHERE://localhost:{elsewhere}
listener.security.protocol.map=SASL_SSL:SASL_SSL,ELSEWHERE:SASL_SSL,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  {admin} user_admin="{word}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required {admin};
listener.name.elsewhere.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.sasl_ssl.ssl.keystore.location={folder}/localhost.pem
listener.name.elsewhere.ssl.keystore.location={folder}/elsewhere.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin
"""


def password(user: str) -> str:
    return f"{user}-knows-this"


@dataclass(frozen=True, slots=True)
class Acl:
    """One right of one user; `name` without prefix."""

    user: str
    resource: str
    name: str
    pattern: str
    operation: str

    def binding(self, prefix: str, kind: type[B]) -> B:
        return kind(
            KINDS[self.resource],
            prefix + self.name,
            PATTERNS[self.pattern],
            f"User:{self.user}",
            "*",
            AclOperation[WORD.sub("_", self.operation).upper()],
            AclPermissionType.ALLOW,
        )


def documented() -> list[Acl]:
    """The rights that the table in docs/operations.md gives."""
    return [
        Acl(user, resource, name, pattern, operation)
        for users, resource, names, pattern, operations in ROW.findall(PAGE.read_text())
        for user in _ticked(users)
        for name in _ticked(names)
        for operation in operations.split(", ")
    ]


def _ticked(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """`elsewhere`: the address of the same broker where its certificate is for another host name."""

    local: LocalKafka
    folder: Path
    elsewhere: str

    @property
    def bootstrap(self) -> str:
        return f"localhost:{self.local.port}"

    def environment(self, user: str, word: str | None = None) -> dict[str, str]:
        """What a service that is `user` is started with."""
        file = self.folder / f"{user}-{'right' if word is None else 'other'}.password"
        file.write_text(password(user) if word is None else word)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(file),
            "KAFKA_SSL_CA_LOCATION": str(self.folder / "ca.pem"),
        }

    def settings(self, base: KafkaSettings, user: str = "admin", word: str | None = None) -> KafkaSettings:
        """`base` for this broker, as `user`."""
        given = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password(user) if word is None else word,
            "ssl.ca.location": str(self.folder / "ca.pem"),
        }
        return base.model_copy(update={"bootstrap_servers": self.bootstrap, "librdkafka": given})

    def allow(self, settings: KafkaSettings, acls: Sequence[Acl]) -> None:
        admin = AdminClient(settings.client())
        for future in admin.create_acls([acl.binding(settings.topic_prefix, AclBinding) for acl in acls]).values():
            future.result(20)

    def take_away(self, settings: KafkaSettings, acls: Sequence[Acl]) -> None:
        admin = AdminClient(settings.client())
        filters = [acl.binding(settings.topic_prefix, AclBindingFilter) for acl in acls]
        for future in admin.delete_acls(filters).values():
            assert future.result(20), "there was no such right"


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """The broker; no registry."""
    port, elsewhere, controller_port = free_port(), free_port(), free_port()
    make_certificates(folder)
    word = password("admin")
    more = SECURE.format(
        port=port,
        elsewhere=elsewhere,
        controller_port=controller_port,
        folder=folder,
        word=word,
        admin=f'username="admin" password="{word}"',
    )
    users = [part for user in ["admin", *USERS] for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password(user)}]")]
    local = LocalKafka(folder / "kafka", port, controller_port=controller_port, properties=more, format_options=users)
    try:
        local.up(registry=False)
        yield SecureKafka(local, folder, f"localhost:{elsewhere}")
    finally:
        local.down()


def make_certificates(folder: Path) -> None:
    """`ca.pem`; `localhost.pem` and `elsewhere.pem` with key and certificate for `localhost` and `kafka.example.com`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Authority of a test", key, "Authority of a test", key)
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for name, host in (("localhost", "localhost"), ("elsewhere", "kafka.example.com")):
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(host, own, "Authority of a test", key, host)
        private = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, host: str | None = None
) -> x509.Certificate:
    now = datetime.now(UTC)
    known = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        .add_extension(known, critical=False)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(signer, hashes.SHA256())
