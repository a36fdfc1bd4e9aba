"""Commands that run here rather than on a server: serve, healthcheck, version."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from typing import Any

from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, CommandFailed

_OVERRIDES = (
    *("data_dir", "http_host", "http_port", "grpc_host", "grpc_port"),
    *("half_life", "log_level", "log_format", "auth_disabled"),
)


def load(arguments: argparse.Namespace) -> Any:
    """The settings as these options, the environment and the file say; exit code 2 where they cannot be used."""
    from memory_runtime.settings import SettingsError, load_settings

    overrides = {name: getattr(arguments, name, None) for name in _OVERRIDES}
    try:
        return load_settings(config_file=arguments.config, overrides=overrides)
    except SettingsError as error:
        raise CommandFailed(str(error), error.exit_code) from None


def serve(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C."""
    loaded = load(arguments)

    import logging

    from memory_runtime.model.errors import SomaError
    from memory_runtime.settings import SettingsError, files_stamp, load_settings
    from memory_runtime.surfaces.serve import serve as run
    from memory_runtime.surfaces.serve import with_token
    from memory_runtime.telemetry.logs import configure_logging

    def adjusted(fresh: Any) -> Any:
        """With what is not configured but follows from where it runs: so a reload sees no change there."""
        changed, _ = with_token(fresh.settings)
        if "log_format" not in fresh.origins and sys.stderr.isatty():
            changed = changed.model_copy(update={"log_format": "text"})
        return dataclasses.replace(fresh, settings=changed)

    settings = loaded.settings
    if "log_format" not in loaded.origins and sys.stderr.isatty():
        settings = settings.model_copy(update={"log_format": "text"})
    configure_logging(settings.log_level, settings.log_format)
    log = logging.getLogger("memory_runtime.serve")
    for warning in loaded.warnings:
        log.warning(warning)
    log.info("settings", extra={"settings": loaded.summary()})
    try:
        settings, where = with_token(settings)
        if where is not None:
            print(where, file=sys.stderr)
        overrides = {name: getattr(arguments, name, None) for name in _OVERRIDES}
        reread = lambda: adjusted(load_settings(config_file=arguments.config, overrides=overrides))  # noqa: E731
        asyncio.run(run(settings, reread, lambda: files_stamp(config_file=arguments.config)))
    except SettingsError as error:
        raise CommandFailed(str(error), error.exit_code) from None
    except SomaError as error:
        words = f"{error.message}; {error.remedy}" if error.remedy else error.message
        raise CommandFailed(words, EXIT_FAILED) from None
    except Exception:
        log.critical("the server failed", exc_info=True)
        raise CommandFailed("the server failed; the log says why", EXIT_FAILED) from None
    return EXIT_OK


def healthcheck(arguments: argparse.Namespace) -> int:
    """Asks gRPC health: 0 serving, 1 not serving, 3 unreachable."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = arguments.address or f"127.0.0.1:{os.environ.get('SOMA_GRPC_PORT') or 50053}"
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=""), timeout=arguments.timeout
            )
        except grpc.RpcError as error:
            message = f"cannot reach {address}: {error.details()}"
            raise CommandFailed(message, EXIT_UNREACHABLE) from None
        except ValueError as error:
            raise CommandFailed(f"--address: {error}", EXIT_USAGE) from None
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(state)
    return EXIT_OK if answer.status == health_pb2.HealthCheckResponse.SERVING else EXIT_FAILED


def version(arguments: argparse.Namespace) -> int:
    """Prints the version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        print(installed("soma-memory-operator"))
    except PackageNotFoundError:
        print("0 (not installed)")
    return EXIT_OK
