"""What of the runtime can be observed: logs, metrics, traces."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.values import Duration, HttpUrl, LabelKey, LabelValue


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


class ServiceMonitor(ApiModel):
    """A ServiceMonitor for the Prometheus operator."""

    enabled: bool = False
    """Whether one is made; without the Prometheus operator's CRD MonitoringReady says so."""

    interval: Duration = "30s"
    """Time between scrapes."""

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Labels of the ServiceMonitor, by which a Prometheus selects it."""


class Tracing(ApiModel):
    """OpenTelemetry traces."""

    endpoint: HttpUrl
    """OTLP collector, such as http://otel-collector.observability.svc:4318."""

    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the requests that are traced, 0 to 1."""


class Observability(ApiModel):
    """Logs, metrics and traces of the runtime."""

    metrics_enabled: bool = True
    """Whether /metrics is served."""

    log_level: LogLevel = LogLevel.INFO
    """Least severe message that is logged."""

    log_format: LogFormat = LogFormat.JSON
    """json for machines, text for people."""

    service_monitor: ServiceMonitor = Field(default_factory=ServiceMonitor)
    """Not built yet: MonitoringReady says NotImplemented. A ServiceMonitor for the Prometheus operator."""

    tracing: Tracing | None = None
    """Not built yet: MonitoringReady says NotImplemented. OpenTelemetry traces. Left out: none."""

    rules = (
        Rule(
            "self.?metricsEnabled.orValue(true) || !self.?serviceMonitor.?enabled.orValue(false)",
            "serviceMonitor is enabled while metricsEnabled is false: enable the metrics or remove the ServiceMonitor",
            ".serviceMonitor",
            lambda obs: obs.metrics_enabled or not obs.service_monitor.enabled,
        ),
    )
