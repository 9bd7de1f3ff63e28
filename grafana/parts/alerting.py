"""The type of an alert, and the template pieces that its texts are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: Address of Grafana for the readers of an alert; ``generate.py --grafana-url`` sets another one.
GRAFANA = "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    ``pending_period`` is the ``for`` of the rule. ``dashboard`` is the uid of the dashboard to open, ``variables`` its
    variables that are set to the labels of the same name. ``summary`` has the subject, the value and the limit;
    ``details`` follow the start time in the description; ``first_step`` is the first thing to do. All three are
    Prometheus templates.
    """

    name: str
    severity: str
    expr: str
    pending_period: str
    by: tuple[str, ...]
    dashboard: str
    summary: str
    details: str
    first_step: str
    labels: dict[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """The complete text of the alert."""
        return f"{self.summary} Since {since(self)}. {self.details} First: {self.first_step}"

    def dashboard_url(self, grafana: str) -> str:
        """The address of the dashboard, filtered to the subject of the alert."""
        values = "&".join(f"var-{name}={{{{ $labels.{name} | urlquery }}}}" for name in self.variables)
        return f"{grafana}/d/{self.dashboard}" + (f"?{values}" if values else "")


def since(alert: Alert) -> str:
    """The time at which the condition became true: the value of ``ALERTS_FOR_STATE``."""
    fixed = "".join(f',{name}="{value}"' for name, value in alert.labels.items())
    values = "".join(f",{name}=%q" for name in alert.by)
    names = " ".join(f"$labels.{name}" for name in alert.by)
    selector = f'ALERTS_FOR_STATE{{alertname="{alert.name}"{fixed}{values}}}'
    return (
        f"{{{{ with printf `{selector}` {names} | query }}}}{{{{ . | first | value | humanizeTimestamp }}}}"
        "{{ else }}now{{ end }}"
    )


def lookup(expr: str, names: Iterable[str], shown: str, none: str = "unknown") -> str:
    """The first value of a query, shown by a template of ``.``; each %q in ``expr`` is a label of ``names``."""
    labels = " ".join(f"$labels.{name}" for name in names)
    return f"{{{{ with printf `{expr}` {labels} | query }}}}{shown}{{{{ else }}}}{none}{{{{ end }}}}"


def figure(unit: str, how: str = "humanize") -> str:
    """The value of the first result of a query, by the template function ``how``, with its unit."""
    return f"{{{{ . | first | value | {how} }}}}{unit}"


def listed(expr: str, names: Iterable[str], one: str, none: str) -> str:
    """All results of a query, separated by commas."""
    labels = " ".join(f"$labels.{name}" for name in names)
    each = "{{ range $i, $found := . }}{{ if $i }}, {{ end }}" + one + "{{ end }}"
    return f"{{{{ with printf `{expr}` {labels} | query }}}}{each}{{{{ else }}}}{none}{{{{ end }}}}"
