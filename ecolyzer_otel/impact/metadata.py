"""The metadata services of clouds: how each is queried for the region, and the form of a valid answer.

Any other answer is ignored: on an unknown network any server may listen on a link-local address (a captive portal,
another cloud's service), so status, marks of the provider and the spelling of a region are all checked.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ADDRESSES", "SERVICES", "MetadataAnswer", "Service"]

_LINK_LOCAL: Final = "169.254.169.254"
#: Where each service listens, as its provider documents.
ADDRESSES: Final[Mapping[str, str]] = {
    "aws": _LINK_LOCAL,
    "gcp": _LINK_LOCAL,
    "azure": _LINK_LOCAL,
    "ovhcloud": _LINK_LOCAL,
    "scaleway": "169.254.42.42",
}
_LARGEST: Final = 65536
#: The name server that OVHcloud gives to its instances: the only mark that distinguishes it from other OpenStacks.
_OVH_NAME_SERVER: Final = "213.186.33.99"


@dataclass(frozen=True, slots=True)
class MetadataAnswer:
    """A valid answer. ``region`` is None where the service is the provider's and names no region."""

    provider: str
    region: str | None


@dataclass(frozen=True, slots=True)
class Service:
    """One provider's metadata service. ``pattern`` matches its regions."""

    provider: str
    pattern: re.Pattern[str]
    read: Callable[[_Client], str | None]

    def query(self, address: str, deadline: float) -> MetadataAnswer | None:
        """The answer of the service at ``address`` (host, or host:port) until ``deadline``, or None.

        ``deadline`` is a time of :func:`time.monotonic`. Never raises: any failure is None.
        """
        try:
            region = self.read(_Client(address, deadline))
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return None
        if region == "":
            return MetadataAnswer(self.provider, None)
        return MetadataAnswer(self.provider, region) if region and self.pattern.fullmatch(region) else None


class _Client:
    """GETs from one address until one deadline."""

    def __init__(self, address: str, deadline: float) -> None:
        host, _, port = address.partition(":")
        self._host, self._port = host, int(port or 80)
        self._deadline = deadline

    def text(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        mark: tuple[str, str] | None = None,
    ) -> str | None:
        """The text of an answer with status 200 and the header ``mark``, else None; redirects are not followed.

        Raises:
            OSError: not reachable, or not complete in time.
            HTTPException, ValueError: not HTTP, too long, or not UTF-8.
        """
        connection = http.client.HTTPConnection(self._host, self._port)
        with socket.create_connection((self._host, self._port), _left(self._deadline)) as opened:
            connection.sock = _Bounded(opened, self._deadline)
            connection.request(method, path, headers={"Connection": "close", **(headers or {})})
            answer = connection.getresponse()
            if answer.status != 200 or (mark and answer.getheader(mark[0]) != mark[1]):
                return None
            body = answer.read(_LARGEST + 1)
        if len(body) > _LARGEST:
            raise ValueError("too long to be metadata")
        return body.decode("utf-8").strip() or None

    def document(self, path: str) -> dict[str, Any]:
        """The JSON object at ``path``, or an empty one. Raises as :meth:`text`."""
        body = self.text(path)
        value = json.loads(body) if body else {}
        return value if isinstance(value, dict) else {}


class _Bounded(io.RawIOBase):
    """The part of a socket that http.client uses, with one deadline however slowly bytes arrive.

    A socket's own timeout restarts with every byte. Closing this closes nothing: http.client closes its socket
    before it has read the body.
    """

    def __init__(self, opened: socket.socket, deadline: float) -> None:
        self._socket = opened
        self._deadline = deadline

    def makefile(self, mode: str, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Bounded(self._socket, self._deadline))

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._deadline))
        self._socket.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._deadline))
        return self._socket.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


def _aws(client: _Client) -> str | None:
    """EC2 User Guide, "Use the Instance Metadata Service": version 2, a session token first; version 1 never."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = client.text("/latest/api/token", ttl, method="PUT")
    if not token:
        return None
    return client.text("/latest/meta-data/placement/region", {"X-aws-ec2-metadata-token": token})


def _gcp(client: _Client) -> str | None:
    """Compute Engine, "About VM metadata": the zone, ``projects/123/zones/europe-west1-b``, of a marked answer."""
    flavor = ("Metadata-Flavor", "Google")
    zone = client.text("/computeMetadata/v1/instance/zone", dict([flavor]), mark=flavor)
    found = re.fullmatch(r"projects/[^/]+/zones/([a-z0-9-]+)-[a-z0-9]+", zone or "")
    return found[1] if found else None


def _azure(client: _Client) -> str | None:
    """Azure Instance Metadata Service for Linux: compute/location, as text."""
    return client.text(
        "/metadata/instance/compute/location?api-version=2021-02-01&format=text", {"Metadata": "true"}
    )


def _ovhcloud(client: _Client) -> str | None:
    """Nova's metadata: ``eu-west-par-a`` where a region has zones, else ``nova``, which names no region.

    OpenStack's documents name no provider; OVHcloud's list its name server (guide "Changing the DNS servers of a
    Public Cloud instance").
    """
    zone = str(client.document("/openstack/latest/meta_data.json").get("availability_zone") or "")
    services = client.document("/openstack/latest/network_data.json").get("services")
    listed = services if isinstance(services, list) else []
    servers = [one.get("address") for one in listed if isinstance(one, dict) and one.get("type") == "dns"]
    if _OVH_NAME_SERVER not in servers:
        return None
    return "" if zone in ("", "nova") else zone


def _scaleway(client: _Client) -> str | None:
    """Scaleway's ``/conf``: the zone, ``fr-par-1``."""
    return str(client.document("/conf?format=json").get("zone") or "") or None


_ALL: Final = (
    Service("aws", re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-\d{1,2}"), _aws),
    Service("gcp", re.compile(r"[a-z]{2,16}-[a-z]{2,16}\d{1,2}"), _gcp),
    Service("azure", re.compile(r"[a-z][a-z0-9]{3,40}"), _azure),
    Service("ovhcloud", re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}"), _ovhcloud),
    Service("scaleway", re.compile(r"[a-z]{2}-[a-z]{3}-\d{1,2}"), _scaleway),
)
SERVICES: Final[Mapping[str, Service]] = {service.provider: service for service in _ALL}
