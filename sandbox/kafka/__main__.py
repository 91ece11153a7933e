"""`python -m sandbox.kafka up|down|status`: a local Kafka and registry for development."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.kafka.local import JARS, LocalKafka, SandboxError, fetch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.kafka", description=__doc__)
    parser.add_argument("command", choices=["fetch", "up", "down", "status"])
    parser.add_argument("--home", type=Path, default=JARS.parent / "kafka", help="data, logs and pid files")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--registry-port", type=int, default=8081)
    arguments = parser.parse_args()
    kafka = LocalKafka(arguments.home, arguments.port, arguments.registry_port)
    try:
        match arguments.command:
            case "fetch":
                print(fetch())
            case "up":
                kafka.up()
                print(f"kafka {kafka.bootstrap}  registry {kafka.registry_url}")
            case "down":
                kafka.down()
            case "status":
                state = kafka.status()
                print("\n".join(f"{name}: {'up' if up else 'down'}" for name, up in state.items()))
                return 0 if all(state.values()) else 1
    except SandboxError as exc:
        print(f"sandbox.kafka: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
