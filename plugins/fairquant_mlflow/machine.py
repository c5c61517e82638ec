"""System metrics of a run (`tracking.system_metrics`): MLflow's monitor, from the start of a run to its end."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_monitors: dict[str, SystemMetricsMonitor] = {}


def watch(run_id: str, store: str, resumed: bool) -> None:
    """Log the use of processor, memory, disk, network and GPU to the run, in a thread. ImportError without psutil."""
    if find_spec("psutil") is None:
        raise ImportError(
            'tracking.system_metrics needs psutil: pip install "fairquant[system-metrics]". '
            "This run is tracked without system metrics"
        )
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    stop(run_id)
    monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=store)
    monitor.start()
    _monitors[run_id] = monitor


def stop(run_id: str) -> None:
    """End the thread of the run, if there is one, and log what it still holds."""
    monitor = _monitors.pop(run_id, None)
    if monitor is not None:
        monitor.finish()
