"""Where a request goes, and where the page is for its visitor: below another application, behind a proxy."""

from __future__ import annotations

from gradio.route_utils import get_root_url
from starlette.requests import Request
from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Path of a request below the place where the application is mounted."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return (path.removeprefix(root) if path == root or path.startswith(root + "/") else path) or "/"


def page_address(scope: Scope) -> str:
    """Address of the page as the visitor has it, without a slash at its end; behind a proxy, the proxy's."""
    request = Request(scope)
    root_path = getattr(scope.get("app"), "root_path", "") or scope.get("root_path", "")
    return get_root_url(request, "/", root_path)
