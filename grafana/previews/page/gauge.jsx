// The gauge, redrawn: Grafana 13's own is in its server, not on npm. Value, colour and text come from @grafana/data.
import { formattedValueToString, getActiveThreshold, ThresholdsMode } from '@grafana/data';
import { Values } from './panels.jsx';

const FROM = -125; // degrees from straight up, clockwise
const TO = 125;

function arc(cx, cy, r, from, to) {
  const at = (degrees) =>
    `${cx + r * Math.sin((degrees * Math.PI) / 180)} ${cy - r * Math.cos((degrees * Math.PI) / 180)}`;
  return `M ${at(from)} A ${r} ${r} 0 ${to - from > 180 ? 1 : 0} 1 ${at(to)}`;
}

/** The parts of the range by the threshold that holds there. */
function bands({ thresholds, min, max }, theme) {
  if (!thresholds) return [];
  const share = (value) => (thresholds.mode === ThresholdsMode.Percentage ? value / 100 : (value - min) / (max - min));
  const inside = (value) => Math.min(1, Math.max(0, share(value)));
  return thresholds.steps.map(({ value, color }, i) => {
    const end = thresholds.steps[i + 1];
    return { from: inside(value), to: end ? inside(end.value) : 1, color: theme.visualization.getColorByName(color) };
  });
}

function Gauge({ value, width, height, theme, name, markers }) {
  const { min = 0, max = 100 } = value.field;
  const label = name ? 20 : 0;
  const r = Math.min(width / 2, (height - label) / 1.58) - 8;
  const [cx, cy, thick] = [width / 2, r + 8, r * 0.28];
  const share = Math.min(1, Math.max(0, (value.display.numeric - min) / (max - min || 1)));
  const degrees = (part) => FROM + part * (TO - FROM);
  const text = formattedValueToString(value.display);
  const size = Math.min(r * 0.42, (r * 2.3) / text.length);
  const stroke = (radius, from, to, color, wide) => (
    <path
      key={`${radius} ${from}`}
      d={arc(cx, cy, radius, degrees(from), degrees(to))}
      stroke={color}
      strokeWidth={wide}
      fill="none"
    />
  );
  const { color = getActiveThreshold(value.display.numeric, value.field.thresholds?.steps)?.color } = value.display;
  return (
    <svg width={width} height={height} fontFamily={theme.typography.fontFamily} textAnchor="middle">
      {stroke(r - 5 - thick / 2, 0, 1, theme.colors.background.secondary, thick)}
      {share > 0 && stroke(r - 5 - thick / 2, 0, share, color, thick)}
      {markers && bands(value.field, theme).map((b) => b.to > b.from && stroke(r - 1, b.from, b.to, b.color, 4))}
      <text x={cx} y={cy + size * 0.35} fontSize={size} fontWeight="500" fill={color}>
        {text}
      </text>
      {name && (
        <text x={cx} y={height - 5} fontSize="13" fill={theme.colors.text.primary}>
          {value.display.title}
        </text>
      )}
    </svg>
  );
}

export function Gauges(props) {
  const { showThresholdMarkers: markers = true } = props.panel.options;
  return (
    <Values
      {...props}
      autoGrid
      minVizWidth={75}
      minVizHeight={75}
      one={({ value, width, height, count }) => (
        <Gauge {...{ value, width, height, markers, theme: props.theme, name: count > 1 }} />
      )}
    />
  );
}
