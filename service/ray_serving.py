"""Deployment on Ray Serve, with one complete application per replica.

    linewise serve --engine ray                                  # on a new Ray, or the cluster of RAY_ADDRESS
    serve run linewise.service.ray_serving:build max_replicas=4  # by Ray's own command
    serve deploy service/deploy/serve.yaml                       # to a cluster

Each replica authenticates, limits and batches its own requests, as ``linewise.service.app`` describes. Ray starts and
replaces replicas, distributes requests and queues those that exceed their capacity.
"""

from __future__ import annotations

import asyncio
import logging.config
import os
import signal
import threading
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from linewise.service.app import create_app
from linewise.service.inference.engine import Engine, State
from linewise.service.logs import log_config
from linewise.service.settings import Replicas, Settings

APPLICATION_NAME = "linewise"
RETRY_AFTER_S = 1.0  # a proxy does not know the replicas' queues, and the next attempt may reach a free replica
SHUTDOWN_MARGIN_S = 5.0  # after the drain timeout, before Ray kills a replica
WARM_UP_POLL_INTERVAL_S = 0.05


class Health:
    """Health check of a replica: pending while the model loads, failed once only a restart helps."""

    app: FastAPI  # set by serve.ingress

    async def check_health(self) -> None:
        """Wait until the model is loaded.

        Raises:
            RuntimeError: the model failed to load or hangs.
        """
        engine: Engine = self.app.state.engine
        while engine.state is State.STARTING:
            await asyncio.sleep(WARM_UP_POLL_INTERVAL_S)
        if not engine.alive:
            raise RuntimeError(f"the model has failed or hangs (state: {engine.state.value})")


def build(replicas: Replicas) -> Application:
    """Build the application for ``serve run`` and Serve configs, whose arguments are ``replicas``.

    All other settings come from the environment of the replicas.
    """
    return application(replicas, {}, drain=Settings(host="127.0.0.1").drain_timeout, keyed=False)


def application(replicas: Replicas, overrides: dict[str, Any], *, drain: float, keyed: bool) -> Application:
    """Build the deployment of ``replicas``; ``overrides`` take precedence over settings in their environment.

    ``drain`` is the time in seconds that a replica may take to finish admitted requests. API keys stay in the
    environment, because ``overrides`` are kept in the cluster's store. With ``keyed``, a replica without API keys in
    its environment does not start.
    """

    def build_app() -> FastAPI:
        settings = settings_in_replica(replicas, overrides, keyed=keyed)
        logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
        return create_app(settings)

    deployment = serve.deployment(
        serve.ingress(build_app)(Health),
        name=APPLICATION_NAME,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target_requests,
            "upscale_delay_s": 10.0,  # short, because a replica is ready within seconds
            "downscale_delay_s": 300.0,
        },
        max_ongoing_requests=replicas.max_requests,
        max_queued_requests=replicas.max_queued,
        backpressure_config={"retry_after_s": RETRY_AFTER_S},
        health_check_period_s=5.0,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=drain + SHUTDOWN_MARGIN_S,
    )
    bound: Application = deployment.bind()  # type: ignore[attr-defined]  # missing in Ray's annotations
    return bound


def settings_in_replica(replicas: Replicas, overrides: dict[str, Any], *, keyed: bool) -> Settings:
    """Build the settings of the current process and set its environment to one thread per core of the replica.

    Ray sets OMP_NUM_THREADS to all cores of the replica, which every model thread would use.

    Raises:
        RuntimeError: ``keyed``, and the environment holds no API keys.
    """
    os.environ.setdefault("LINEWISE_THREADS", str(max(1, int(replicas.cpus))))
    settings = Settings(**overrides)
    if keyed and not settings.api_keys and settings.api_keys_file is None:
        raise RuntimeError("no API keys in the environment of the cluster's nodes: set LINEWISE_API_KEYS there")
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(replicas.cpus) // settings.batch_limits.threads))
    return settings


def run(settings: Settings, replicas: Replicas) -> None:
    """Serve until SIGTERM or SIGINT, then finish the admitted requests.

    Connects to the cluster that ``RAY_ADDRESS`` names or that runs on this machine; else starts one, which ends with
    the service.
    """
    stop = threading.Event()
    ray.init(log_to_driver=True, include_dashboard=False)
    for number in (signal.SIGTERM, signal.SIGINT):  # after ray.init, which installs handlers of its own
        signal.signal(number, lambda *_: stop.set())
    overrides = _overrides(settings)
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        keyed = bool(settings.api_keys) or settings.api_keys_file is not None
        serve.run(application(replicas, overrides, drain=settings.drain_timeout, keyed=keyed), name=APPLICATION_NAME)
        stop.wait()
        serve.delete(APPLICATION_NAME)  # waits until the replicas have drained
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _overrides(settings: Settings) -> dict[str, Any]:
    """Select the settings that options of the command set; never a secret."""
    overrides: dict[str, Any] = {
        "host": settings.host,
        "allow_anonymous": settings.allow_anonymous,
        "drain_timeout": settings.drain_timeout,
    }
    for name in ("device", "weights"):
        value = getattr(settings, name)
        if value is not None:
            overrides[name] = value.resolve() if isinstance(value, Path) else value
    return overrides
