"""The proxy for a URL, by the setting `http.proxy`."""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

from yarl import URL

ENVIRONMENT = "environment"
"""Value of the setting `http.proxy` for HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""


def proxy_for(url: URL, setting: str) -> str | None:
    """The proxy for a URL, None for a direct connection.

    `setting` is the address of a proxy, `ENVIRONMENT`, or "" for none. NO_PROXY has hosts and domains; ranges
    of addresses in it are not understood.
    """
    if setting != ENVIRONMENT:
        return setting or None
    if proxy_bypass(url.host or ""):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
