"""HTTP: each route turns a request into one operation and its result into an answer."""

from service.routes import catalogue, export, generation, health, jobs, manifests, plans, reports, watching

_GROUPS = (jobs, generation, export, watching, manifests, plans, reports, catalogue, health)
ROUTERS = tuple(group.router for group in _GROUPS)
