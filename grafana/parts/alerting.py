"""What an alert is, and the pieces of template that the texts of all of them are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: Where Grafana is found by whoever reads an alert; ``generate.py --grafana-url`` puts another one in its place.
GRAFANA = "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    ``dashboard`` is the uid of the dashboard to open, ``variables`` its variables and the labels that they are set
    to. ``summary`` has who and the two figures; ``more`` goes into the description behind "since when"; ``first`` is
    what to do first. All three are Prometheus templates.
    """

    name: str
    severity: str
    expr: str
    wait: str
    by: tuple[str, ...]
    dashboard: str
    summary: str
    more: str
    first: str
    labels: dict[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """Everything a person needs who sees nothing else."""
        return f"{self.summary} Since {since(self)}. {self.details} First: {self.first}"

    def dashboard_url(self, grafana: str) -> str:
        """The dashboard, at what the alert is about."""
        values = "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in self.variables)
        return f"{grafana}/d/{self.dashboard}" + (f"?{values}" if values else "")


def since(alert: Alert) -> str:
    """When the condition became true: Prometheus keeps it as the value of ``ALERTS_FOR_STATE``."""
    fixed = "".join(f',{name}="{value}"' for name, value in alert.labels.items())
    values = "".join(f",{name}=%q" for name in alert.by)
    names = " ".join(f"$labels.{name}" for name in alert.by)
    selector = f'ALERTS_FOR_STATE{{alertname="{alert.name}"{fixed}{values}}}'
    return (
        f"{{{{ with printf `{selector}` {names} | query }}}}{{{{ . | first | value | humanizeTimestamp }}}}"
        "{{ else }}now{{ end }}"
    )


def ask(expr: str, names: Iterable[str], shown: str, none: str = "unknown") -> str:
    """The first value of a query, shown by a template of ``.``; %q in ``expr`` are the labels ``names``."""
    labels = " ".join(f"$labels.{name}" for name in names)
    return f"{{{{ with printf `{expr}` {labels} | query }}}}{shown}{{{{ else }}}}{none}{{{{ end }}}}"


def figure(unit: str, how: str = "humanize") -> str:
    """The value of a query's first result, by the template function ``how``, with its unit."""
    return f"{{{{ . | first | value | {how} }}}}{unit}"


def listed(expr: str, names: Iterable[str], one: str, none: str) -> str:
    """Every result of a query, with commas between."""
    labels = " ".join(f"$labels.{name}" for name in names)
    each = "{{ range $i, $found := . }}{{ if $i }}, {{ end }}" + one + "{{ end }}"
    return f"{{{{ with printf `{expr}` {labels} | query }}}}{each}{{{{ else }}}}{none}{{{{ end }}}}"
