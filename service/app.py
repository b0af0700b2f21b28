"""The application: its parts put together, brought up and taken down in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync as in_thread
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.access import Credentials
from service.launchers.base import Launcher
from service.launchers.local import LocalLauncher
from service.metrics import Metrics
from service.middleware import Envelope
from service.openapi import describe
from service.operations.changes import Changes
from service.operations.context import Context, utc_now
from service.reconcile.loop import Reconciler
from service.routes import ROUTERS, problems
from service.settings import Settings
from service.setup_files import cluster_of
from service.storage import Retention, Store
from vishwamai import __version__

SECRET_FILE = "reports.secret"


def create_app(settings: Settings, launcher: Launcher | None = None) -> FastAPI:
    """The control plane; attempts run in `launcher`, by default the one that the settings name.

    Starting it raises DatabaseError where the database cannot be used, and OSError where the data folder cannot.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(app, settings, launcher or _local_launcher(settings)):
            yield

    # FastAPI's own /docs takes its scripts from a CDN; these pages bring theirs along.
    app = FastAPIOffline(
        title="VishwamAI training service",
        version=__version__,
        description="One JSON training config in; a trained model out.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.metrics = Metrics()
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    app.add_middleware(Envelope, settings=settings, metrics=app.state.metrics)
    describe(app)
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings, launcher: Launcher) -> AsyncIterator[None]:
    """Everything that lives as long as the service does. Attempts outlive it."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    changes = Changes()
    credentials = Credentials.load(settings.data_dir / SECRET_FILE)
    store = await in_thread(lambda: _open_store(settings, changes))
    reconciler = Reconciler(
        store,
        launcher,
        token_for=credentials.token_for,
        tick=settings.tick_seconds,
        max_running=settings.max_running_jobs,
    )
    began = utc_now()
    app.state.credentials = credentials
    cluster = cluster_of(settings)
    app.state.context = Context(store, launcher, changes, reconciler.wake, teachers=settings.teachers, cluster=cluster)
    app.state.last_pass = lambda: reconciler.last_tick or began
    loop = asyncio.create_task(reconciler.run(), name="reconcile")
    try:
        yield
    finally:
        changes.close()
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        await launcher.close()
        await in_thread(store.close)


def _local_launcher(settings: Settings) -> LocalLauncher:
    return LocalLauncher(
        settings.data_dir,
        settings.base_url,
        max_generations=settings.max_generations,
        generation_seconds=settings.generation_seconds,
        export_seconds=settings.export_seconds,
        plan_seconds=settings.plan_seconds,
    )


def _open_store(settings: Settings, changes: Changes) -> Store:
    kept = Retention(log_bytes=settings.log_bytes_per_job, steps=settings.steps_per_job)
    return Store.open(settings.database, kept=kept, on_change=changes.notify)
