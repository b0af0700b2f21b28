"""HTTP: each route turns a request into one operation and its result into an answer."""

from service.routes import catalogue, health, jobs, reports, watching

ROUTERS = (jobs.router, watching.router, reports.router, catalogue.router, health.router)
