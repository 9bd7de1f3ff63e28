// The page that Chromium takes a picture of.
import { createTheme, dateTime, EventBusSrv, ThemeContext } from '@grafana/data';
import { GlobalStyles, Icon, PanelChrome, PanelContextProvider } from '@grafana/ui';
import uiPackage from '@grafana/ui/package.json';
import { Component } from 'react';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import '@fontsource/inter/latin-ext-400.css';
import '@fontsource/inter/latin-ext-500.css';
import './page.css';
import { Heatmap, StateTimeline } from './drawn.jsx';
import { framesOf } from './frames.js';
import { Bars, isNumeric, Lines, Stat, Table, Text } from './panels.jsx';

const GAP = 8;
const LINE = 30;
const PANELS = {
  stat: Stat,
  bargauge: Bars,
  timeseries: Lines,
  table: Table,
  text: Text,
  heatmap: Heatmap,
  'state-timeline': StateTimeline,
};
const notes = [];

function note(panel, what) {
  notes.push(`"${panel.title ?? panel.type}": ${what}`);
}

/** Says in the panel what went wrong in drawing it. */
class Caught extends Component {
  state = {};

  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    note(this.props.panel, `not drawn: ${error.stack}`);
  }

  render() {
    return this.state.error ? <Empty>Not drawn: {this.state.error.message}</Empty> : this.props.children;
  }
}

const Empty = ({ children }) => <div className="preview-empty">{children}</div>;

function Body({ faults, unknown, panel, frames, ...props }) {
  const Drawn = PANELS[panel.type];
  if (!Drawn) return <Empty>The preview cannot draw a panel of the type {panel.type}</Empty>;
  if (faults.length) return <Empty>{faults.join('; ')}</Empty>;
  if (unknown.length) return <Empty>The preview has no transformation {unknown.join(', ')}</Empty>;
  if (panel.type !== 'text' && !frames.some(isNumeric))
    return <Empty>{panel.fieldConfig?.defaults?.noValue ?? 'No data'}</Empty>;
  return <Drawn {...{ panel, frames, ...props }} />;
}

function Panel({ gathered, place, ...shared }) {
  const { panel } = gathered;
  if (panel.type === 'row') {
    const hidden = panel.collapsed ? (panel.panels?.length ?? 0) : 0;
    return (
      <div className="preview-row" style={place}>
        <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} /> {panel.title}
        {hidden > 0 && <small>({hidden} panels)</small>}
      </div>
    );
  }
  return (
    <div style={place}>
      <PanelChrome
        title={panel.title}
        description={panel.description}
        displayMode={panel.transparent ? 'transparent' : 'default'}
        width={place.width}
        height={place.height}
        padding={panel.type === 'table' ? 'none' : 'md'}
      >
        {(width, height) => (
          <Caught panel={panel}>
            <Body {...{ ...gathered, ...shared, width, height }} />
          </Caught>
        )}
      </PanelChrome>
    </div>
  );
}

function Page({ dashboard, panels, theme, timeZone }) {
  const { from, to, width } = dashboard;
  const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1h', to: 'now' } };
  const column = (width - 2 * GAP + GAP) / 24;
  const placeOf = ({ x, y, w, h }) => ({
    left: x * column,
    top: y * (LINE + GAP),
    width: w * column - GAP,
    height: h * (LINE + GAP) - GAP,
  });
  const clock = (seconds) =>
    dateTime(seconds * 1000)
      .utc()
      .format('YYYY-MM-DD HH:mm');
  const quiet = { color: theme.colors.text.secondary };
  return (
    <div className="preview" style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary }}>
      <div className="preview-top">
        <h1>{dashboard.title}</h1>
        <div className="preview-bar">
          {dashboard.bar.map(({ label, value }) => (
            <span key={label} style={{ borderColor: theme.colors.border.medium }}>
              <b style={{ background: theme.colors.background.secondary }}>{label}</b>
              <i style={{ fontStyle: 'normal' }}>{value}</i>
            </span>
          ))}
        </div>
        <span className="range" style={quiet}>
          {clock(from)} to {clock(to).slice(clock(from).slice(0, 10) === clock(to).slice(0, 10) ? 11 : 0)} UTC
        </span>
      </div>
      <div className="preview-grid">
        {panels.map((gathered) => (
          <Panel
            key={gathered.panel.id}
            place={placeOf(gathered.panel.gridPos)}
            {...{ gathered, theme, timeZone, timeRange }}
          />
        ))}
      </div>
      <div className="preview-foot" style={quiet}>
        Preview drawn with @grafana/ui {uiPackage.version} from live data, not a screenshot of Grafana
        {dashboard.note && `; ${dashboard.note}`}
      </div>
    </div>
  );
}

async function main() {
  const dashboard = await (await fetch('/dashboard.json')).json();
  const theme = createTheme({ colors: { mode: dashboard.theme } });
  const timeZone = 'utc';
  const panels = [];
  for (const gathered of dashboard.panels) {
    const framed = await framesOf(gathered, theme, timeZone);
    panels.push({ ...gathered, ...framed });
    for (const fault of gathered.faults) note(gathered.panel, fault);
    for (const id of framed.unknown) note(gathered.panel, `no transformation ${id} here`);
    if (gathered.panel.type !== 'row' && !PANELS[gathered.panel.type])
      note(gathered.panel, `a ${gathered.panel.type} cannot be drawn here`);
  }
  // Now: Grafana measures texts before it draws them, and keeps what it measured.
  await Promise.all(['400', '500'].map((weight) => document.fonts.load(`${weight} 12px Inter`, 'µ1aĀ')));
  createRoot(document.getElementById('page')).render(
    <MemoryRouter>
      <ThemeContext.Provider value={theme}>
        <GlobalStyles />
        <PanelContextProvider value={{ eventsScope: 'preview', eventBus: new EventBusSrv() }}>
          <Page {...{ dashboard, panels, theme, timeZone }} />
        </PanelContextProvider>
      </ThemeContext.Provider>
    </MemoryRouter>,
  );
  await new Promise((done) => setTimeout(done, 1500));
}

main()
  .catch((error) => notes.push(String(error.stack)))
  .finally(() => fetch('/notes', { method: 'POST', body: JSON.stringify(notes) }));
