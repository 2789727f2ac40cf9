"""How the page for people looks, and the policy that lets it be nothing else: one style, no script, nothing fetched."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

STYLE = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
"""The page's only style, as it stands between ``<style>`` and ``</style>``."""

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3.5' fill='%231a5a94'/%3E"
    "%3Cpath d='M4 5h8M4 8h8M4 11h5' stroke='%23fff' stroke-width='1.6' stroke-linecap='round'/%3E%3C/svg%3E"
)
"""The page's icon. Without one in the page, browsers ask the server for a file."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'",
        "img-src data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""For the header of the same name: the browser takes this style, the icon and the search form, and nothing else."""
