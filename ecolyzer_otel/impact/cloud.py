"""The cloud region of this machine, from its firmware, its environment and the cloud's metadata service.

A metadata service is queried on the link-local address that its provider documents: only when enabled, or when the
firmware names the provider; for 0.3 s in total; without a proxy, redirects or credentials. The result is a name
that :func:`ecolyzer_otel.impact.place.resolve_place` takes, or a reason why there is none.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.lookup import find_cloud
from ecolyzer_otel.impact.metadata import ADDRESSES, SERVICES, MetadataAnswer

__all__ = ["PROVIDERS", "Found", "find_cloud_place"]

PROVIDERS: Final = ("aws", "gcp", "azure", "ovhcloud", "scaleway")
_MODES: Final = ("auto", "on", "off")
_REMEDY: Final = "set --zone or ECOLYZER_ZONE, such as"
_EXAMPLES: Final[Mapping[str, str]] = {
    "aws": "aws:eu-central-1",
    "gcp": "gcp:europe-west3",
    "azure": "azure:westeurope",
    "ovhcloud": "ovhcloud:GRA11",
    "scaleway": "scaleway:fr-par",
}
#: The asset tag of every virtual machine in Azure (ASCII codes of "MSFT AZURE VM"); Hyper-V elsewhere has others.
_AZURE_TAG: Final = "7783-7084-3265-9085-8269-3286-77"
#: Values of AWS_EXECUTION_ENV where AWS itself runs the container; AWS_ECS_EXTERNAL runs elsewhere.
_AWS_HOSTED: Final = ("AWS_ECS_FARGATE", "AWS_ECS_EC2", "AWS_Lambda_")
_OFF: Final = ("true", "1", "yes")


@dataclass(frozen=True, slots=True)
class Found:
    """The result of the search.

    ``place`` is a cloud region (``aws:eu-central-1``), a provider's average (``aws:*``), or None; ``source`` names
    what reported it (``aws metadata``, ``aws environment``, ``dmi``; empty where nothing did); ``problem`` is one
    line for the log, with the remedy, where a region was searched for and not found.
    """

    place: str | None
    source: str
    problem: str | None


_NOTHING: Final = Found(None, "", None)


def find_cloud_place(
    which: str,
    *,
    sysfs: str = "/sys",
    environ: Mapping[str, str] | None = None,
    timeout: float = 0.3,
    addresses: Mapping[str, str] | None = None,
) -> Found:
    """Find the cloud region that this process runs in. Never raises for what the machine or the network does.

    Args:
        which: the option ``cloud_metadata``: ``auto`` (query a provider that the firmware names), ``on`` (query all
            at once), ``off``, or one provider (query it).
        sysfs: where sysfs is mounted.
        environ: environment variables; None for the process's own.
        timeout: seconds in total.
        addresses: ``host:port`` by provider instead of the documented ones.

    Raises:
        ConfigError: ``which`` is none of these.
    """
    deadline = time.monotonic() + timeout
    if which not in (*_MODES, *PROVIDERS):
        raise ConfigError("cloud_metadata", f"{which!r} cannot be used", "give auto, on, off or a provider's name")
    if which == "off":
        return _NOTHING
    environ = os.environ if environ is None else environ
    if which in ("auto", "on", "aws"):
        region = _region_of_environment(environ)
        if region:
            return _resolve(MetadataAnswer("aws", region), "aws environment")
    named = _named_by_firmware(Path(sysfs))
    queried = [which] if which in PROVIDERS else list(PROVIDERS) if which == "on" else list(named)
    forbidden = "aws" in queried and environ.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() in _OFF
    if forbidden:
        queried.remove("aws")
    best: Found | None = None
    for answer in _query(queried, {**ADDRESSES, **(addresses or {})}, deadline):
        # A provider that is not expected here counts only with a region that exists.
        expected = answer.provider in named or answer.provider == which or answer.region is None
        found = _resolve(answer, f"{answer.provider} metadata")
        if found.problem is None:
            return found
        if expected and best is None:
            best = found
    return best or _no_answer(which, named, forbidden, timeout)


def _resolve(answer: MetadataAnswer, source: str) -> Found:
    """An answer as a place of the tables: the region, or the provider's average with a problem."""
    provider, region = answer.provider, answer.region
    row = find_cloud(f"{provider}:{region}") if region else None
    if row is not None:
        return Found(f"{row.provider}:{row.region}", source, None)
    remedy = f"the provider's average and the world's grid are used; {_REMEDY} {_EXAMPLES[provider]}"
    what = f"region {region!r} of {provider} is not in the table" if region else f"{source} names no region"
    return Found(f"{provider}:*", source, f"cloud_metadata: {what}: {remedy}")


def _no_answer(which: str, named: Mapping[str, bool], forbidden: bool, timeout: float) -> Found:
    """The result where no metadata service reported a place."""
    provider = next((one for one, certain in named.items() if certain and which in ("auto", "on", one)), None)
    if provider is None and which == "auto":
        return _NOTHING
    if forbidden and (which == "aws" or provider == "aws"):
        why = "AWS_EC2_METADATA_DISABLED disables the query of the region"
    else:
        queried = provider or ("any cloud" if which == "on" else which)
        why = f"the metadata service of {queried} did not report a region within {timeout:g} s"
    remedy = f"{_REMEDY} {_EXAMPLES[provider or (which if which in PROVIDERS else 'aws')]}"
    if (provider or which) == "aws" and not forbidden:
        remedy += ", or for a container set the instance's metadata hop limit to 2"
    if provider is None:
        return Found(None, "", f"cloud_metadata: {why}; {remedy}, or set --cloud-metadata off")
    return Found(
        f"{provider}:*",
        "dmi",
        f"cloud_metadata: {why}: the provider's average and the world's grid are used; {remedy}",
    )


def _region_of_environment(environ: Mapping[str, str]) -> str | None:
    """The region of a container or function that AWS runs; elsewhere AWS_REGION is not the machine's place.

    Source: Amazon ECS and AWS Lambda developer guides, environment variables. ``sam local`` emulates Lambda.
    """
    hosted = environ.get("AWS_EXECUTION_ENV", "")
    if not hosted.startswith(_AWS_HOSTED) or environ.get("AWS_SAM_LOCAL"):
        return None
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    return region if SERVICES["aws"].pattern.fullmatch(region) else None


def _named_by_firmware(sysfs: Path) -> dict[str, bool]:
    """Providers that the firmware's tables (DMI) name, and whether for certain. Empty where there are none.

    Amazon: EC2 User Guide, "Identify EC2 instances" (Xen shows only its UUID). Google: Compute Engine,
    "Detect if a VM is running in Compute Engine"; by the product, because a Chromebook's vendor is Google as well.
    Azure: the asset tag, as cloud-init does. Scaleway: its vendor. OVHcloud's instances name OpenStack like many
    others, so this is uncertain until its metadata confirm it.
    """
    folder = sysfs / "class" / "dmi" / "id"
    vendors = [_line(folder / name).casefold() for name in ("sys_vendor", "bios_vendor", "board_vendor")]
    products = [_line(folder / name).casefold() for name in ("product_name", "product_version", "bios_version")]
    tag = _line(folder / "chassis_asset_tag")
    if any(vendor.startswith("amazon ec2") for vendor in vendors) or any("amazon" in one for one in products[1:]):
        return {"aws": True}
    if "xen" in vendors and _is_ec2(_line(folder / "product_uuid"), _line(sysfs / "hypervisor" / "uuid")):
        return {"aws": True}
    if products[0] in ("google", "google compute engine"):
        return {"gcp": True}
    if tag == _AZURE_TAG:
        return {"azure": True}
    if any(vendor.startswith("scaleway") for vendor in vendors):
        return {"scaleway": True}
    if any(vendor.startswith("ovh") for vendor in vendors):
        return {"ovhcloud": True}
    if any("openstack" in one for one in (*vendors, products[0], tag.casefold())):
        return {"ovhcloud": False}
    return {}


def _is_ec2(*uuids: str) -> bool:
    """Whether a UUID begins with ec2, in either order of bytes (SMBIOS 2.4 swaps those of its first fields)."""
    for uuid in uuids:
        first = uuid.casefold().partition("-")[0]
        if first.startswith("ec2") or (len(first) == 8 and (first[6:] + first[4:6]).startswith("ec2")):
            return True
    return False


def _line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(256).strip()
    except OSError:
        return ""


def _query(providers: Sequence[str], addresses: Mapping[str, str], deadline: float) -> list[MetadataAnswer]:
    """The answers of the providers' metadata services, in the order of arrival; a region ends the wait.

    Each is queried in a daemon thread of its own, whose socket has the same deadline: none outlives it.
    """
    arriving: queue.SimpleQueue[MetadataAnswer | None] = queue.SimpleQueue()

    def query(provider: str) -> None:
        answer: MetadataAnswer | None = None
        try:
            answer = SERVICES[provider].query(addresses[provider], deadline)
        finally:
            arriving.put(answer)

    for provider in providers:
        try:
            threading.Thread(target=query, args=(provider,), name=f"ecolyzer-{provider}", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is shutting down
            arriving.put(None)
    answers: list[MetadataAnswer] = []
    for _ in providers:
        try:
            answer = arriving.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if answer is not None:
            answers.append(answer)
            if answer.region and find_cloud(f"{answer.provider}:{answer.region}"):
                break
    return answers
