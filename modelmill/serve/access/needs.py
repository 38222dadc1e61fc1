"""What every path needs: nothing, any key, or one of some roles. A path that is not listed needs an administrator.

The table stands apart from the handlers, so that who may do what is read on one page; a test holds it against the
paths of the service.
"""

from __future__ import annotations

from modelmill.serve.access.caller import ADMIN, EVERY_ROLE, INFER, OPERATE, READ, WATCH

Need = frozenset[str] | None
"""Roles of which one is enough; None is open to all."""

OPEN: Need = None
ANY_KEY: Need = EVERY_ROLE
ONLY_ADMIN: Need = frozenset({ADMIN})

USE: Need = frozenset({INFER})
LOOK: Need = frozenset({INFER, READ, OPERATE})
STUDY: Need = frozenset({READ})
COUNT: Need = frozenset({WATCH})
CHANGE: Need = frozenset({OPERATE})

MODEL = "v2/models/{name}"
VERSION = "v2/models/{name}/versions/{version}"

NEEDS: dict[tuple[str, str], Need] = {
    ("GET", "v2"): ANY_KEY,
    ("GET", "v2/health/live"): OPEN,
    ("GET", "v2/health/ready"): OPEN,
    **{("GET", f"{path}{of}"): LOOK for path in (MODEL, VERSION) for of in ("", "/ready", "/config", "/stats")},
    ("GET", "v2/models/stats"): LOOK,
    **{("POST", f"{path}/infer"): USE for path in (MODEL, VERSION)},
    ("POST", "v2/repository/index"): LOOK,
    ("POST", "v2/repository/models/{name}/load"): CHANGE,
    ("POST", "v2/repository/models/{name}/unload"): CHANGE,
    ("POST", "predict/{name}"): USE,
    ("GET", "api/models"): LOOK,
    ("GET", "api/models/{name}"): LOOK,
    ("GET", "api/models/{name}/report"): STUDY,
    ("GET", "api/models/{name}/changes"): LOOK,
    ("GET", "api/models/{name}/rollout"): LOOK,
    ("POST", "api/models/{name}/rollout"): CHANGE,
    ("DELETE", "api/models/{name}/rollout"): CHANGE,
    ("PUT", "api/models/{name}/route"): CHANGE,
    ("DELETE", "api/models/{name}/route"): CHANGE,
    ("GET", "api/deployments"): LOOK,
    ("GET", "api/runs"): STUDY,
    ("GET", "api/runs/{id}"): STUDY,
    ("GET", "api/audit"): ONLY_ADMIN,
    ("GET", "api/status"): COUNT,
    ("GET", "metrics"): COUNT,
    ("GET", "openapi.json"): ANY_KEY,
    ("GET", "docs"): ANY_KEY,
    ("GET", "docs.js"): OPEN,
    ("GET", "docs.css"): OPEN,
    ("GET", "signin"): OPEN,
    ("POST", "signin"): OPEN,
    ("POST", "signout"): OPEN,
}


OF_ALL = frozenset({"api/audit", "api/status", "metrics"})
"""Paths that tell of every model: a key that is narrowed to some of them is refused there, whatever its roles."""


def need(method: str, pattern: str) -> Need:
    """What a method of a path needs.

    >>> sorted(need("POST", "predict/{name}")), need("GET", "v2/health/live")
    (['infer'], None)
    """
    return NEEDS.get((method, pattern), ONLY_ADMIN)


CALLS: dict[str, Need] = {
    "ServerLive": OPEN,
    "ServerReady": OPEN,
    "Check": OPEN,
    "Watch": OPEN,
    "ServerMetadata": ANY_KEY,
    "ModelReady": LOOK,
    "ModelMetadata": LOOK,
    "ModelConfig": LOOK,
    "ModelStatistics": LOOK,
    "ModelInfer": USE,
    "ModelStreamInfer": USE,
    "RepositoryIndex": LOOK,
    "RepositoryModelLoad": CHANGE,
    "RepositoryModelUnload": CHANGE,
}
"""The methods over gRPC, by the end of their path."""


def called(path: str) -> Need:
    """What a method over gRPC needs.

    >>> sorted(called("/inference.GRPCInferenceService/ModelInfer"))
    ['infer']
    """
    return CALLS.get(path.rpartition("/")[2], ONLY_ADMIN)


def of_page(parts: list[str]) -> Need:
    """What a page for people needs: searches the role that reads them, models any that sees models."""
    if parts[0] in ("static", "favicon.ico"):
        return OPEN
    return STUDY if parts[0] == "runs" or parts[:2] == ["api", "runs"] else LOOK
