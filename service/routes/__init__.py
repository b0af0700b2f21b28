"""HTTP: each route turns a request into one operation and its result into an answer."""

from service.routes import catalogue, generation, health, jobs, reports, watching

ROUTERS = (jobs.router, generation.router, watching.router, reports.router, catalogue.router, health.router)
