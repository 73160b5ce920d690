"""``python -m dawg_agent agent | sidecar | checkout``: the three things the agent image does."""

from __future__ import annotations

from dawg_agent import signs

signs.listen()

import argparse  # noqa: E402 - before anything that takes its time to load
import os  # noqa: E402
import sys  # noqa: E402

from dawg_agent.settings import SettingsError, read_agent_settings, read_sidecar_settings  # noqa: E402


def main() -> int:
    """Run one role until it ends; 64: the environment is wrong."""
    parser = argparse.ArgumentParser(prog="dawg_agent", description="Works for DAWG inside the cluster.")
    parser.add_argument("role", choices=["agent", "sidecar", "checkout"])
    role = parser.parse_args().role
    os.umask(0o002)  # what git checks out and what is unpacked can be written by the group, which tests belong to
    try:
        if role == "agent":
            from dawg_agent.agent import run_agent

            return run_agent(read_agent_settings(os.environ))
        from dawg_agent.sidecar import run_sidecar

        return run_sidecar(read_sidecar_settings(os.environ), only_prepare=role == "checkout")
    except SettingsError as error:
        print(f"dawg_agent {role}: {error}", file=sys.stderr)
        return 64


if __name__ == "__main__":
    sys.exit(main())
