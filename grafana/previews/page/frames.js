// From what Prometheus answered to the data frames that Grafana's components take: the part that Grafana's Prometheus
// data source and its panel runner do. Transformations, matchers, units and reducers are @grafana/data's own.
import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  FieldConfigOptionsRegistry,
  FieldType,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

standardTransformersRegistry.setInit(() =>
  [...new Set(Object.values(standardTransformers))].map((one) => ({
    id: one.id,
    name: one.name,
    transformation: () => Promise.resolve(one),
  })),
);

const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

/** The name that a legend gives a series: its format filled in, or none, for Grafana to find what tells series apart. */
function legendOf({ legendFormat, expr }, labels) {
  if (legendFormat && legendFormat !== '__auto') {
    return legendFormat.replace(/\{\{\s*([^}]+?)\s*\}\}/g, (_, name) => labels[name] ?? '');
  }
  const { __name__: name, ...others } = labels;
  if (legendFormat === '__auto') return Object.keys(others).length ? undefined : (name ?? expr);
  const list = Object.entries(others).map(([key, value]) => `${key}="${value}"`);
  return list.length ? `${name ?? ''}{${list.join(', ')}}` : (name ?? expr);
}

function seriesFrames(result) {
  return result.data.result.map(({ metric, values, value }) => {
    const samples = values ?? [value];
    const displayNameFromDS = legendOf(result, metric);
    return toDataFrame({
      refId: result.refId,
      fields: [
        {
          name: 'Time',
          type: FieldType.time,
          values: samples.map(([time]) => time * 1000),
          config: { interval: result.step * 1000 },
        },
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          values: samples.map(([, text]) => number(text)),
          config: displayNameFromDS === undefined ? {} : { displayNameFromDS },
        },
      ],
    });
  });
}

function tableFrame(result, several) {
  const rows = result.data.result.flatMap(({ metric, values, value }) =>
    (values ?? [value]).map(([time, text]) => ({ metric, time: time * 1000, value: number(text) })),
  );
  const labels = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))].sort();
  const column = (name, type, of) => ({ name, type, values: rows.map(of), config: {} });
  return toDataFrame({
    refId: result.refId,
    fields: [
      column('Time', FieldType.time, (row) => row.time),
      ...labels.map((label) => column(label, FieldType.string, (row) => row.metric[label] ?? '')),
      column(several ? `Value #${result.refId}` : 'Value', FieldType.number, (row) => row.value),
    ],
  });
}

/** Buckets as rows: for each le what fell between it and the one below, times as columns. */
function heatmapFrame(result) {
  const series = result.data.result
    .map(({ metric, values = [] }) => ({ le: number(metric.le), at: new Map(values.map(([t, v]) => [t, number(v)])) }))
    .sort((a, b) => a.le - b.le);
  const times = [...new Set(series.flatMap(({ at }) => [...at.keys()]))].sort((a, b) => a - b);
  const fields = series.map(({ le, at }, i) => ({
    name: le === Infinity ? '+Inf' : String(le),
    type: FieldType.number,
    config: {},
    values: times.map((t) => Math.max(0, (at.get(t) ?? 0) - (i ? (series[i - 1].at.get(t) ?? 0) : 0))),
  }));
  const time = {
    name: 'Time',
    type: FieldType.time,
    config: { interval: result.step * 1000 },
    values: times.map((t) => t * 1000),
  };
  return toDataFrame({ refId: result.refId, fields: [time, ...fields] });
}

/** As Grafana thins them: for each step the highest, then only what lies two standard deviations below the last kept. */
function thinned(exemplars, step) {
  const values = exemplars.map(({ value }) => Number(value));
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = Math.sqrt(
    values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1),
  );
  const last = new Map();
  return [...exemplars]
    .sort((a, b) => b.value - a.value)
    .filter(({ timestamp, value }) => {
      const at = Math.floor(timestamp / step);
      const keep = !last.has(at) || last.get(at) - value > 2 * deviation;
      if (keep) last.set(at, value);
      return keep;
    });
}

function exemplarFrames(result) {
  const found = thinned(
    (result.exemplars ?? []).flatMap(({ exemplars }) => exemplars),
    result.step,
  );
  if (!found.length) return [];
  const fields = [
    { name: 'Time', type: FieldType.time, values: found.map(({ timestamp }) => timestamp * 1000) },
    { name: 'Value', type: FieldType.number, values: found.map(({ value }) => Number(value)) },
  ];
  return [toDataFrame({ name: 'exemplar', refId: result.refId, fields })];
}

/** All that can be set per field, by path: a registry as each panel of Grafana has it, here without editors. */
function registryOf({ defaults, overrides }) {
  const standard = `unit min max decimals displayName noValue color thresholds mappings links description filterable
    fieldMinMax`.split(/\s+/);
  const custom = new Set(Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`));
  for (const { properties } of overrides) {
    for (const { id } of properties) if (id.startsWith('custom.')) custom.add(id);
  }
  const item = (id) => ({
    id,
    path: id.replace(/^custom\./, ''),
    name: id,
    isCustom: id.startsWith('custom.'),
    process: identityOverrideProcessor,
    shouldApply: () => true,
    settings: {},
  });
  return new FieldConfigOptionsRegistry(() => [...standard, ...custom].map(item));
}

/** JSON has no -Infinity, so the lowest threshold is null in a file. */
function withBase(thresholds) {
  return { ...thresholds, steps: thresholds.steps.map((s) => ({ ...s, value: s.value ?? -Infinity })) };
}

const THRESHOLDS = {
  mode: 'absolute',
  steps: [
    { value: null, color: 'green' },
    { value: 80, color: 'red' },
  ],
};

/** The field configuration of a panel, with what Grafana takes where the file says nothing. */
function fieldConfigOf(panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  return {
    defaults: {
      color: { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' },
      ...defaults,
      thresholds: withBase(defaults.thresholds ?? THRESHOLDS),
    },
    overrides: overrides.map(({ matcher, properties }) => ({
      matcher,
      properties: properties.map((p) => (p.id === 'thresholds' ? { ...p, value: withBase(p.value) } : p)),
    })),
  };
}

/** The frames of a panel, ready to be drawn, and its exemplars. */
export async function framesOf({ panel, results, values }, theme, timeZone) {
  const tables = results.filter(({ format }) => format === 'table').length;
  const raw = results.flatMap((result) => {
    if (result.format === 'table') return result.data.result.length ? [tableFrame(result, tables > 1)] : [];
    if (result.format === 'heatmap') return result.data.result.length ? [heatmapFrame(result)] : [];
    return seriesFrames(result);
  });
  const interpolate = (text) => text.replace(/\$\{?(\w+)\}?/g, (whole, name) => values[name] ?? whole);
  const wanted = (panel.transformations ?? []).filter(({ disabled }) => !disabled);
  const unknown = wanted.filter(({ id }) => !standardTransformersRegistry.getIfExists(id)).map(({ id }) => id);
  const data = await lastValueFrom(transformDataFrame(wanted, raw, { interpolate }));
  const fieldConfig = fieldConfigOf(panel);
  const frames = applyFieldOverrides({
    data,
    fieldConfig,
    theme,
    timeZone,
    replaceVariables: interpolate,
    fieldConfigRegistry: registryOf(fieldConfig),
  });
  cacheFieldDisplayNames(frames);
  return { frames, fieldConfig, exemplars: results.flatMap(exemplarFrames), unknown };
}
