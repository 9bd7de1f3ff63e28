// The panels whose drawing is in Grafana's server and not on npm: heatmap and state timeline, redrawn here on
// Grafana's plot (axes, scales, palette and legend are Grafana's; the marks are ours).
import {
  FieldType,
  formattedValueToString,
  getFieldDisplayName,
  getFieldSeriesColor,
  getValueFormat,
} from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder, VizLayout, VizLegend } from '@grafana/ui';
import * as chromatic from 'd3-scale-chromatic';
import { Exemplars } from './panels.jsx';

// Grafana turns some scales of d3 round, so that much stands out from the background.
const ALWAYS_TURNED = /^(BrBG|PiYG|PRGn|PuOr|RdBu|RdGy|RdYlBu|RdYlGn|Spectral|Rainbow|Sinebow)$/;
const TURNED_IN_LIGHT = /^(Turbo|Cividis|Viridis|Magma|Inferno|Plasma|Warm|Cool|Cubehelix)$/;
const ACROSS = { orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right };
const UP = { orientation: ScaleOrientation.Vertical, direction: ScaleDirection.Up };

/** A plot of Grafana with a time axis, on which `draw` paints. */
function timePlot({ theme, timeZone, timeRange }, draw) {
  const config = new UPlotConfigBuilder(timeZone);
  config.setCursor({ show: false });
  config.addScale({
    scaleKey: 'x',
    isTime: true,
    ...ACROSS,
    range: [timeRange.from.valueOf(), timeRange.to.valueOf()],
  });
  config.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, theme, timeZone });
  config.addHook('draw', (u) => {
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    draw(u);
    u.ctx.restore();
  });
  return config;
}

function invisibleSeries(config, scaleKey, theme) {
  config.addSeries({
    scaleKey,
    theme,
    show: true,
    drawStyle: 'points',
    showPoints: 'never',
    lineWidth: 0,
    pxAlign: false,
  });
}

function colorsOf({ scheme = 'Oranges', reverse, steps = 64 } = {}, theme) {
  const of = chromatic[`interpolate${scheme === 'Cubehelix' ? 'CubehelixDefault' : scheme}`];
  const alone = ALWAYS_TURNED.test(scheme) || TURNED_IN_LIGHT.test(scheme) !== theme.isDark;
  const turned = alone !== Boolean(reverse);
  return Array.from({ length: steps }, (_, i) => of(turned ? 1 - i / (steps - 1) : i / (steps - 1)));
}

function Cross({ color = 'rgba(255,0,255,0.7)' }) {
  return (
    <svg width="9" height="9" viewBox="0 0 9 9" style={{ display: 'block', transform: 'translate(-50%, -50%)' }}>
      <path d="M4.5 0V9M0 4.5H9" stroke={color} strokeWidth="1" />
    </svg>
  );
}

export function Heatmap(props) {
  const { panel, frames, exemplars, theme, width, height } = props;
  const { color, yAxis = {}, legend, filterValues } = panel.options;
  const [time, ...rows] = frames[0].fields;
  const least = filterValues?.le ?? 1e-9;
  const cells = rows.flatMap((row, y) => row.values.map((value, i) => ({ value, y, time: time.values[i] })));
  const shown = cells.filter(({ value }) => value > least);
  const high = color?.max ?? Math.max(...shown.map(({ value }) => value));
  const low = color?.min ?? Math.min(0, ...shown.map(({ value }) => value));
  const colors = colorsOf(color, theme);
  const colorOf = (value) =>
    colors[Math.min(colors.length - 1, Math.floor(((value - low) / (high - low || 1)) * colors.length))];
  const bounds = rows.map((row) => Number(row.name.replace('+', '')));
  const step = time.config.interval;
  const config = timePlot(props, (u) => {
    const gap = panel.options.cellGap ?? 1;
    for (const { value, y, time: at } of shown) {
      const [x0, x1] = [u.valToPos(at - step, 'x', true), u.valToPos(at, 'x', true)];
      const [y0, y1] = [u.valToPos(y + 1, 'y', true), u.valToPos(y, 'y', true)];
      u.ctx.fillStyle = colorOf(value);
      u.ctx.fillRect(x0, y0, Math.max(1, x1 - x0 - gap), Math.max(1, y1 - y0 - gap));
    }
  });
  config.addScale({ scaleKey: 'y', ...UP, range: [0, rows.length] });
  const format = getValueFormat(yAxis.unit ?? 'short');
  const labels = (at) =>
    at.map((i) =>
      i ? (rows[i - 1].name === '+Inf' ? '+Inf' : formattedValueToString(format(bounds[i - 1], yAxis.decimals))) : '',
    );
  const every = Math.ceil((rows.length * 18) / Math.max(50, height - 60));
  const splits = rows.map((_, i) => i + 1).filter((i) => (rows.length - i) % every === 0);
  config.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: () => splits,
    values: (_, at) => labels(at),
    grid: { show: false },
  });
  invisibleSeries(config, 'y', theme);
  const unit = getValueFormat(panel.options.cellValues?.unit ?? 'short');
  const text = (value) => formattedValueToString(unit(value, value < 10 ? 1 : 0));
  // Between the bounds of a bucket the axis is as the eye expects it: by the ratio.
  const yOf = (value) => {
    const above = bounds.findIndex((bound) => value <= bound);
    if (above < 1) return above === 0 ? 0.5 : rows.length - 0.5;
    const [from, to] = [bounds[above - 1], bounds[above]];
    return above + (to === Infinity ? 0.5 : Math.log(value / from) / Math.log(to / from));
  };
  const scale = legend?.show !== false && (
    <VizLayout.Legend placement="bottom">
      <div className="preview-scale">
        <span>{text(low)}</span>
        <i style={{ background: `linear-gradient(90deg, ${colors.join(',')})` }} />
        <span>{text(high)}</span>
      </div>
    </VizLayout.Legend>
  );
  return (
    <VizLayout width={width} height={height} legend={scale || null}>
      {(w, h) => (
        <UPlotChart config={config} data={[time.values, time.values.map(() => null)]} width={w} height={h}>
          {exemplars.length > 0 && (
            <Exemplars
              config={config}
              events={exemplars}
              yOf={yOf}
              mark={<Cross color={panel.options.exemplars?.color} />}
            />
          )}
        </UPlotChart>
      )}
    </VizLayout>
  );
}

/** Runs of one state: from when to when, and how it is shown. */
function runsOf(field, times, step, end, merge) {
  const runs = [];
  field.values.forEach((value, i) => {
    if (value == null) return;
    const last = runs.at(-1);
    const from = times[i];
    const to = Math.min(i + 1 < times.length ? times[i + 1] : from + step, from + step * 1.5, end);
    if (merge && last && last.value === value && from - last.to < step) last.to = to;
    else runs.push({ value, from, to, ...shownAs(field, value) });
  });
  return runs;
}

const shownAs = (field, value) => ({
  text: formattedValueToString(field.display(value)),
  color: field.display(value).color ?? '#808080',
});

export function StateTimeline(props) {
  const { panel, frames, theme, timeRange, width, height } = props;
  const { mergeValues = true, showValue = 'auto', rowHeight = 0.9, legend } = panel.options;
  const rows = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === FieldType.time);
    const states = frame.fields.filter((field) => field !== time);
    return states.map((field) => ({
      name: getFieldDisplayName(field, frame, frames),
      opacity: (field.config.custom?.fillOpacity ?? 70) / 100,
      runs: runsOf(field, time.values, time.config.interval, timeRange.to.valueOf(), mergeValues),
    }));
  });
  const config = timePlot(props, (u) => {
    u.ctx.font = `${12 * devicePixelRatio}px ${theme.typography.fontFamily}`;
    u.ctx.textBaseline = 'middle';
    u.ctx.textAlign = 'left';
    rows.forEach(({ runs, opacity }, i) => {
      const [y0, y1] = [i + (1 - rowHeight) / 2, i + (1 + rowHeight) / 2].map((y) =>
        u.valToPos(rows.length - y, 'y', true),
      );
      for (const { from, to, text, color } of runs) {
        const [x0, x1] = [u.valToPos(from, 'x', true), u.valToPos(to, 'x', true)];
        u.ctx.globalAlpha = opacity;
        u.ctx.fillStyle = color;
        u.ctx.fillRect(x0, y0, x1 - x0, y1 - y0);
        u.ctx.globalAlpha = 1;
        if (showValue === 'never' || u.ctx.measureText(text).width + 8 > x1 - x0) continue;
        u.ctx.fillStyle = theme.colors.getContrastText(color, theme.colors.contrastThreshold);
        u.ctx.fillText(text, x0 + 6, (y0 + y1) / 2);
      }
    });
  });
  config.addScale({ scaleKey: 'y', ...UP, range: [0, rows.length] });
  const names = (_, at) => at.map((y) => rows[Math.round(rows.length - y - 0.5)]?.name ?? '');
  const middles = rows.map((_, i) => i + 0.5);
  config.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: () => middles,
    values: names,
    grid: { show: false },
    ticks: { show: false },
  });
  invisibleSeries(config, 'y', theme);
  const seen = new Map(rows.flatMap(({ runs }) => runs.map(({ text, color }) => [text, color])));
  const items = [...seen].map(([label, color]) => ({ label, color, yAxis: 1 }));
  const shown = legend?.showLegend !== false && items.length > 0;
  const placement = legend?.placement ?? 'bottom';
  const below = shown ? (
    <VizLayout.Legend placement={placement}>
      <VizLegend placement={placement} items={items} displayMode={legend?.displayMode ?? 'list'} />
    </VizLayout.Legend>
  ) : null;
  return (
    <VizLayout width={width} height={height} legend={below}>
      {(w, h) => <UPlotChart config={config} data={[[timeRange.from.valueOf()], [null]]} width={w} height={h} />}
    </VizLayout>
  );
}
