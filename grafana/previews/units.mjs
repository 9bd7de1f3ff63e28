// What Grafana itself makes of a value: every unit at scales from 1e-9 to 1e12, by the code that Grafana's panels use
// (@grafana/data). Exits 1 when a dashboard names a unit that Grafana does not know or
// would show wrongly.
//
//   node units.mjs                      the units that the dashboards use, and some to compare
//   node units.mjs 'si: g' joule        these
//   node units.mjs --value 3.6 joule    another mantissa than 1.2345
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

globalThis.navigator ??= { language: 'en-US', languages: ['en-US'] }; // @grafana/data reads it as it loads
const { createTheme, FieldType, getDisplayProcessor, getValueFormats } = createRequire(import.meta.url)(
  '@grafana/data',
);

const COMPARED =
  'joule watt watth massg litre celsius s short sishort none percentunit percent reqps si:gCO2e suffix:gCO2e/req'.split(
    ' ',
  );
const SCALES = [-9, -6, -3, 0, 3, 6, 9, 12];
const FOLDER = fileURLToPath(new URL('../dashboards/', import.meta.url));

/** What is wrong with a unit, or undefined. */
function faultOf(unit) {
  const [, key, name] = /^(prefix|suffix|time|si|count|currency|bool):(.*)$/.exec(unit) ?? []; // those of getValueFormat
  if (!key) return known.has(unit) ? undefined : 'is unknown to Grafana, which would print it behind the plain number';
  if (/^\s/.test(name)) return 'begins with a blank, but Grafana puts one there itself';
  if (key === 'si' && /^[fpnµmkMGTPEZY]/.test(name))
    return `begins with the SI prefix "${name[0]}", which Grafana takes off and scales by`;
}

const known = new Set(getValueFormats().flatMap((category) => category.submenu.map((format) => format.value)));
const theme = createTheme();

/** The text that a panel shows for a value in a unit. */
function shown(value, unit) {
  const field = { name: 'value', type: FieldType.number, values: [value], config: { unit } };
  const { prefix = '', text, suffix = '' } = getDisplayProcessor({ field, theme })(value);
  return prefix + text + suffix;
}

/** All (unit, panel) of a dashboard, panels in rows included. */
function unitsOf(panels) {
  return panels.flatMap((panel) => {
    const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
    const units = [
      defaults.unit,
      ...overrides.flatMap((o) => o.properties.filter((p) => p.id === 'unit').map((p) => p.value)),
    ];
    return [...units.filter(Boolean).map((unit) => ({ unit, panel: panel.title })), ...unitsOf(panel.panels ?? [])];
  });
}

function dashboards() {
  try {
    return readdirSync(FOLDER).filter((name) => name.endsWith('.json'));
  } catch {
    return [];
  }
}

const args = process.argv.slice(2);
const at = args.indexOf('--value');
const mantissa = at < 0 ? 1.2345 : Number(args.splice(at, 2)[1]);
const used = dashboards().flatMap((name) =>
  unitsOf(JSON.parse(readFileSync(FOLDER + name, 'utf8')).panels).map((found) => ({ ...found, name })),
);
const units = args.length ? args : [...new Set([...used.map((found) => found.unit), ...COMPARED])];

const rows = [
  ['unit', ...SCALES.map((k) => `${mantissa}e${k}`)],
  ...units.map((u) => [u, ...SCALES.map((k) => shown(mantissa * 10 ** k, u))]),
];
const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
for (const row of rows) {
  console.log(row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '));
}

const faults = used.map((found) => ({ ...found, fault: faultOf(found.unit) })).filter(({ fault }) => fault);
for (const { name, panel, unit, fault } of faults) console.error(`${name}: "${panel}": the unit "${unit}" ${fault}`);
console.error(`${used.length} units in ${dashboards().length} dashboards, ${faults.length} with a fault`);
process.exitCode = faults.length ? 1 : 0;
