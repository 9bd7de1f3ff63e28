// Runs all queries of a dashboard: what comes back is all that the page needs to draw it.
import { builtins, seconds, stepOf, substitute } from './variables.mjs';

/** The panels to draw, rows opened where they are open: a collapsed row keeps its panels to itself. */
export function visiblePanels(dashboard, rows) {
  const panels = dashboard.panels.flatMap((panel) =>
    panel.type === 'row' && !panel.collapsed && panel.panels?.length ? [panel, ...panel.panels] : [panel],
  );
  const shown = panels.filter(({ gridPos }) => gridPos.y + gridPos.h <= rows);
  while (shown.length < panels.length && shown.at(-1)?.type === 'row') shown.pop(); // its panels were left out
  return shown;
}

export async function collect(panel, { values, prometheus, from, to, scrape, width }) {
  const points = panel.maxDataPoints ?? Math.max(100, Math.round((width * panel.gridPos.w) / 24));
  const least = panel.interval ? seconds(substitute(panel.interval, values)) : scrape;
  const step = stepOf(to - from, points, least);
  const known = { ...values, ...builtins({ from, to, step, scrape }) };
  const faults = [];
  const fill = (text) => substitute(text, known, (name) => faults.push(`nobody knows the variable ${name}`));
  const results = [];
  for (const target of panel.targets ?? []) {
    if (target.hide) continue;
    if ((target.datasource?.type ?? panel.datasource?.type ?? 'prometheus') !== 'prometheus') {
      faults.push(
        `query ${target.refId} is for ${target.datasource?.type ?? panel.datasource.type}, which is not asked here`,
      );
      continue;
    }
    const expr = fill(target.expr);
    const [start, end] = [Math.floor(from / step) * step, Math.floor(to / step) * step];
    try {
      const data = target.instant ? await prometheus.instant(expr, to) : await prometheus.range(expr, start, end, step);
      const exemplars = target.exemplar && !target.instant ? await prometheus.exemplars(expr, from, to) : [];
      const { refId, format, legendFormat, instant = false } = target;
      results.push({
        refId,
        format,
        legendFormat: legendFormat && fill(legendFormat),
        instant,
        expr,
        step,
        start,
        end,
        data,
        exemplars,
      });
    } catch (error) {
      faults.push(`query ${target.refId}: ${error.message}`);
    }
  }
  const text = (what) => what && substitute(what, known);
  return {
    panel: { ...panel, title: text(panel.title), description: text(panel.description) },
    content: text(panel.options?.content),
    results,
    faults: [...new Set(faults)],
    values: known,
  };
}
