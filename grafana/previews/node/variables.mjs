// What stands in a dashboard as $service, ${model:regex} or $__rate_interval, and what it becomes.

const PATTERN = /\$(\w+)|\$\{(\w+)(?:\.[^:}]+)?(?::(\w+))?\}|\[\[(\w+)\]\]/g;
const STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800, M: 2629800, y: 31557600 };

/** "15s", "1m", "now-1h" as seconds. */
export function seconds(text) {
  const [, number, unit] = /^>?(\d+(?:\.\d+)?)(ms|[smhdwMy])?$/.exec(String(text).trim()) ?? [];
  if (!number) throw new Error(`not a length of time: ${text}`);
  return unit === 'ms' ? number / 1000 : number * UNITS[unit ?? 's'];
}

/** "now", "now-15m" or a Unix time in seconds, as Unix time in seconds. */
export function moment(text, now) {
  const relative = /^now(?:-([^/]+))?(?:\/\w)?$/.exec(text);
  return relative ? now - (relative[1] ? seconds(relative[1]) : 0) : Number(text);
}

/** The step of a panel: so that there is about one sample for a pixel, in the steps that people expect. */
export function stepOf(range, points, least) {
  return Math.max(least, STEPS.find((step) => step >= range / points) ?? 86400);
}

/** The variables that Grafana itself offers. */
export function builtins({ from, to, step, scrape }) {
  const rate = Math.max(step + scrape, 4 * scrape);
  const range = Math.round(to - from);
  return {
    __interval: `${step}s`,
    __interval_ms: String(step * 1000),
    __rate_interval: `${rate}s`,
    __rate_interval_ms: String(rate * 1000),
    __range: `${range}s`,
    __range_s: String(range),
    __range_ms: String(range * 1000),
    __from: String(Math.round(from * 1000)),
    __to: String(Math.round(to * 1000)),
  };
}

/** A text with its variables replaced; `missing` hears of those that nobody knows. */
export function substitute(text, values, missing = () => {}) {
  return text.replace(PATTERN, (whole, a, b, format, c) => {
    const value = values[a ?? b ?? c];
    if (value === undefined) {
      if (!/^\d+$/.test(a ?? '')) missing(a ?? b ?? c); // $1 is a group of a regular expression
      return whole;
    }
    if (!Array.isArray(value)) return value;
    if (format === 'csv') return value.join(',');
    if (format === 'text') return value.join(' + ');
    const escaped = value.map((one) => one.replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&'));
    return escaped.length === 1 ? escaped[0] : `(${escaped.join('|')})`;
  });
}

/** What can be chosen for a variable. */
async function optionsOf(variable, values, prometheus, from, to) {
  if (variable.type === 'custom' || variable.type === 'interval') {
    return (variable.query ?? '').split(',').map((one) => one.trim().split(' : ').pop());
  }
  if (variable.type !== 'query') return [];
  const query = substitute(variable.query?.query ?? variable.query ?? variable.definition, values);
  const [, selector, label] = /^label_values\((?:(.+),)?\s*(\w+)\s*\)$/s.exec(query.trim()) ?? [];
  if (label) {
    const found = await prometheus.labelValues(label, selector?.trim(), from, to);
    const wanted = variable.regex && new RegExp(variable.regex.replace(/^\/|\/\w*$/g, ''));
    return wanted ? found.filter((one) => wanted.test(one)) : found;
  }
  throw new Error(`the variable ${variable.name} asks what this script cannot: ${query}`);
}

/** The value of each variable of a dashboard, and what the bar above it says. */
export async function choose(dashboard, chosen, prometheus, from, to) {
  const values = { __dashboard: dashboard.title };
  const bar = [];
  for (const variable of dashboard.templating?.list ?? []) {
    const { name, type } = variable;
    const options = await optionsOf(variable, values, prometheus, from, to);
    const current = [].concat(chosen[name] ?? variable.current?.value ?? []).filter((one) => one !== '');
    let shown;
    if (type === 'datasource') {
      values[name] = shown = variable.query;
    } else if (type === 'constant' || type === 'textbox') {
      values[name] = shown = chosen[name] ?? variable.query ?? '';
    } else if (current.includes('$__all') || current.includes('All') || (!current.length && variable.includeAll)) {
      values[name] = variable.allValue ?? (options.length ? options : '.*');
      shown = 'All';
    } else {
      values[name] = current.length ? current : options.slice(0, 1);
      shown = values[name].join(' + ');
    }
    const hidden = variable.hide === 2 || variable.hide === 'hideVariable';
    if (!hidden) bar.push({ label: variable.label || name, value: shown || '(none)' });
  }
  return { values, bar };
}
