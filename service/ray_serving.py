"""The application on Ray Serve: any number of replicas on any number of machines, each the whole service in small.

    linewise serve --engine ray                                  # a Ray of its own, or the cluster of RAY_ADDRESS
    serve run linewise.service.ray_serving:build max_replicas=4           # Ray's own command
    serve deploy service/deploy/serve.yaml                       # to a cluster

What a replica is and does stands in ``service.app``: keys, limits, batching and health are its own. Ray starts and
replaces replicas, spreads requests over them and holds back what they have no room for.
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

NAME = "linewise"
RETRY_AFTER = 1.0  # seconds; a proxy knows nothing of the replicas' queues, and the next try may meet a free one
SPARE = 5.0  # seconds beyond the drain before Ray kills a replica
POLL = 0.05  # seconds between looks at whether the model is warm


class Health:
    """What Ray asks a replica: nothing is sent to it before it is warm, and it is replaced when only that helps."""

    app: FastAPI  # set by serve.ingress

    async def check_health(self) -> None:
        """Wait while the model is being loaded. Raises ``RuntimeError`` when it has failed or is stuck."""
        engine: Engine = self.app.state.engine
        while engine.state is State.STARTING:
            await asyncio.sleep(POLL)
        if not engine.alive:
            raise RuntimeError(f"the model is of no more use: {engine.state.value}")


def build(replicas: Replicas) -> Application:
    """The application for ``serve run`` and the ``import_path`` of a Serve config, with ``replicas`` as arguments.

    All other settings come from the environment of the replicas.
    """
    return application(replicas, {}, drain=Settings(host="127.0.0.1").drain_timeout, keyed=False)


def application(replicas: Replicas, given: dict[str, Any], *, drain: float, keyed: bool) -> Application:
    """The deployment of ``replicas`` with the settings ``given`` on top of those in the replicas' environment.

    ``drain`` is how long, in seconds, a replica may take to finish what was admitted. API keys stay in the
    environment: what is given here lies in the cluster's store. A replica that ought to be ``keyed`` and finds none in
    its environment does not start.
    """

    def build_app() -> FastAPI:
        settings = settings_in_replica(replicas, given, keyed=keyed)
        logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
        return create_app(settings)

    deployment = serve.deployment(
        serve.ingress(build_app)(Health),
        name=NAME,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target_requests,
            "upscale_delay_s": 10.0,  # a replica is ready within seconds
            "downscale_delay_s": 300.0,
        },
        max_ongoing_requests=replicas.max_requests,
        max_queued_requests=replicas.max_queued,
        backpressure_config={"retry_after_s": RETRY_AFTER},
        health_check_period_s=5.0,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=drain + SPARE,
    )
    bound: Application = deployment.bind()  # type: ignore[attr-defined]  # Ray declares a decorator's decorator
    return bound


def settings_in_replica(replicas: Replicas, given: dict[str, Any], *, keyed: bool) -> Settings:
    """The settings of the process that this is called in. Raises ``RuntimeError`` when it ought to be keyed and is not.

    The environment is set for a thread on each of the replica's cores: Ray would give each of them all the cores.
    """
    os.environ.setdefault("LINEWISE_THREADS", str(max(1, int(replicas.cpus))))
    settings = Settings(**given)
    if keyed and not settings.api_keys and settings.api_keys_file is None:
        raise RuntimeError("no API keys in the environment of the cluster's nodes")
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(replicas.cpus) // settings.batch_limits.threads))
    return settings


def run(settings: Settings, replicas: Replicas) -> None:
    """Serve until told to stop by SIGTERM or SIGINT, then finish what was admitted.

    Uses the cluster that ``RAY_ADDRESS`` names or that runs on this machine, else starts one here, which ends with it.
    """
    stop = threading.Event()
    ray.init(log_to_driver=True, include_dashboard=False)
    for number in (signal.SIGTERM, signal.SIGINT):  # after ray.init, which puts its own in place
        signal.signal(number, lambda *_: stop.set())
    given = _given(settings)
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        keyed = bool(settings.api_keys) or settings.api_keys_file is not None
        serve.run(application(replicas, given, drain=settings.drain_timeout, keyed=keyed), name=NAME)
        stop.wait()
        serve.delete(NAME)  # waits for the replicas to drain
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _given(settings: Settings) -> dict[str, Any]:
    """What options of the command say, which the replicas' environment may not: never a secret."""
    chosen: dict[str, Any] = {
        "host": settings.host,
        "allow_anonymous": settings.allow_anonymous,
        "drain_timeout": settings.drain_timeout,
    }
    for name in ("device", "weights"):
        value = getattr(settings, name)
        if value is not None:
            chosen[name] = value.resolve() if isinstance(value, Path) else value
    return chosen
