// The panels whose drawing is in @grafana/ui: the options of the dashboard handed to Grafana's own components, as
// Grafana's panels of these names do.
import {
  FieldType,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  renderTextPanelMarkdown,
} from '@grafana/data';
import {
  BarGauge,
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  EventsCanvas,
  TimeSeries,
  VizRepeater,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { useLayoutEffect, useRef } from 'react';

const DIAMOND = {
  width: 8,
  height: 8,
  background: '#5794F2',
  transform: 'translate(-50%, -50%) rotate(45deg)',
  opacity: 0.9,
};

/** One value for each field, by the reducer of the panel, repeated over the panel's area. */
function Values({ panel, frames, fieldConfig, theme, timeZone, width, height, sparkline, one, ...layout }) {
  const { reduceOptions = { calcs: ['lastNotNull'] }, orientation = 'auto' } = panel.options;
  const replaceVariables = (text) => text;
  const getValues = () =>
    getFieldDisplayValues({ fieldConfig, reduceOptions, replaceVariables, theme, data: frames, sparkline, timeZone });
  return (
    <VizRepeater
      getValues={getValues}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={one}
      width={width}
      height={height}
      source={frames}
      renderCounter={0}
      orientation={orientation}
      {...layout}
    />
  );
}

export function Stat(props) {
  const { options } = props.panel;
  const {
    graphMode = BigValueGraphMode.Area,
    colorMode = BigValueColorMode.Value,
    textMode,
    justifyMode,
    text,
  } = options;
  return (
    <Values
      {...props}
      autoGrid
      sparkline={graphMode !== BigValueGraphMode.None}
      one={({ value, width, height, count, alignmentFactors }) => (
        <BigValue
          value={value.display}
          count={count}
          sparkline={value.sparkline}
          colorMode={colorMode}
          graphMode={graphMode}
          justifyMode={justifyMode ?? BigValueJustifyMode.Auto}
          textMode={textMode ?? BigValueTextMode.Auto}
          text={text}
          alignmentFactors={alignmentFactors}
          disableWideLayout={options.wideLayout === false}
          {...{ width, height, theme: props.theme }}
        />
      )}
    />
  );
}

export function Bars(props) {
  const { options } = props.panel;
  const { sizing, minVizWidth, minVizHeight, maxVizHeight, namePlacement } = options;
  return (
    <Values
      {...props}
      itemSpacing={props.panel.options.displayMode === 'lcd' ? 2 : 10}
      minVizWidth={sizing === 'manual' ? minVizWidth : 8}
      minVizHeight={sizing === 'manual' ? minVizHeight : 16}
      maxVizHeight={sizing === 'manual' ? maxVizHeight : 300}
      one={({ value, width, height, orientation, alignmentFactors }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          displayMode={options.displayMode ?? 'gradient'}
          showUnfilled={options.showUnfilled ?? true}
          valueDisplayMode={options.valueMode ?? 'color'}
          namePlacement={namePlacement ?? 'auto'}
          text={options.text}
          {...{ width, height, orientation, alignmentFactors, theme: props.theme }}
        />
      )}
    />
  );
}

const LINES = {
  drawStyle: 'line',
  lineWidth: 1,
  fillOpacity: 0,
  showPoints: 'auto',
  pointSize: 5,
  axisPlacement: 'auto',
};

export function Lines({ panel, frames, exemplars, timeRange, timeZone, width, height }) {
  const drawn = frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => ({
      ...field,
      config: { ...field.config, custom: { ...LINES, ...field.config.custom } },
      values: field.values.map((value) => (Number.isFinite(value) ? value : null)), // as Grafana: no number, no point
    })),
  }));
  const legend = { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...panel.options.legend };
  return (
    <TimeSeries frames={drawn} legend={legend} timeZone={timeZone} {...{ timeRange, width, height }}>
      {(config) => <Exemplars config={config} events={exemplars} />}
    </TimeSeries>
  );
}

export function Exemplars({ config, events, yOf = (value) => value, mark = <div style={DIAMOND} /> }) {
  const drawn = useRef();
  useLayoutEffect(() => config.addHook('init', (u) => (drawn.current = u)), [config]);
  const where = (frame, row) => {
    const plot = drawn.current;
    const [time, value] = frame.fields.map((field) => field.values[row]);
    const [x, y] = plot?.series.slice(0, 2).map(({ scale }) => scale) ?? [];
    if (!y || plot.scales[y].min == null || time < plot.scales[x].min || time > plot.scales[x].max) return undefined;
    const at = { x: plot.valToPos(time, x), y: plot.valToPos(yOf(value), y) };
    return at.y >= 0 && at.y <= plot.over.clientHeight ? at : undefined;
  };
  return (
    <EventsCanvas
      id="exemplars"
      config={config}
      events={events}
      renderEventMarker={() => mark}
      mapEventToXYCoords={where}
    />
  );
}

export function Table({ panel, frames, fieldConfig, timeRange, width, height }) {
  const {
    showHeader = true,
    sortBy,
    cellHeight = 'sm',
    frameIndex = 0,
    enablePagination,
    frozenColumns,
  } = panel.options;
  const frame = frames[frameIndex] ?? frames[0];
  const fields = frame.fields.map((field) => ({
    ...field,
    config: { ...field.config, custom: { cellOptions: { type: 'auto' }, ...field.config.custom } },
  }));
  return (
    <TableNG
      data={{ ...frame, fields }}
      noHeader={!showHeader}
      frozenColumns={frozenColumns?.left}
      structureRev={1}
      enableVirtualization={false}
      {...{ sortBy, cellHeight, enablePagination, fieldConfig, timeRange, width, height }}
    />
  );
}

export function Text({ content = '', panel }) {
  if (panel.options.mode === 'code') return <pre>{content}</pre>;
  const html = panel.options.mode === 'html' ? content : renderTextPanelMarkdown(content);
  return <div className="markdown-html preview-text" dangerouslySetInnerHTML={{ __html: html }} />;
}

export const isNumeric = (frame) => frame.fields.some(({ type }) => type === FieldType.number);
