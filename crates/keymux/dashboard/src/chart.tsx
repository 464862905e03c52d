// A line over time. Drawn on a canvas by uPlot, which no screen reader sees: the same is told in a sentence, and as a
// table to whoever opens it.

import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { clock, labels } from './format.ts';
import type { Point } from './model.ts';

export interface Line { label: string; color: string; value: (point: Point) => number | null; dash?: number[]; fill?: boolean }

const HEIGHT = 132;
const TABLE_ROWS = 12;
const dark = matchMedia('(prefers-color-scheme: dark)');

const variable = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(width: number, lines: Line[], show: (n: number) => string): uPlot.Options {
  const faint = variable('--rule');
  const axis = { stroke: variable('--quiet'), font: '11px system-ui', ticks: { show: false }, grid: { stroke: faint, width: 1 } };
  return {
    width, height: HEIGHT,
    padding: [8, 22, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, size: 22, space: 70, grid: { show: false }, values: (_u, at, _axis, _space, step) => at.map((t) => clock(t * 1_000).slice(0, step < 60 ? 8 : 5)) },
      { ...axis, size: 46, space: 34, values: (_u, values) => labels(values, show) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label, stroke: variable(line.color), width: 1.6, points: { show: false },
        ...(line.dash && { dash: line.dash }), ...(line.fill && { fill: `${variable(line.color)}22` }),
      })),
    ],
  };
}

/** Gaps stay gaps: a gateway that was down was not at zero. */
const data = (points: readonly Point[], lines: Line[]): uPlot.AlignedData =>
  [points.map((p) => p.at / 1_000), ...lines.map((line) => points.map(line.value))] as uPlot.AlignedData;

export function Chart({ title, points, lines, show, told }: {
  title: string; points: readonly Point[]; lines: Line[]; show: (n: number) => string; told: string;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, point] = useState<number | null>(null);
  const [open, opened] = useState(false);
  const shape = lines.map((line) => line.label).join();

  useEffect(() => {
    const element = place.current!;
    const draw = () => {
      plot.current?.destroy();
      const made = new uPlot(options(element.clientWidth || 300, lines, show), data(points, lines), element);
      made.hooks.setCursor = [(u) => point(u.cursor.idx ?? null)];
      plot.current = made;
    };
    draw();
    const sized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    sized.observe(element);
    dark.addEventListener('change', draw);
    return () => {
      sized.disconnect();
      dark.removeEventListener('change', draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => plot.current?.setData(data(points, lines)), [points.at(-1)?.at, points.length]);

  const step = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const u = plot.current;
    if (!by || !u || points.length === 0) return;
    event.preventDefault();
    const next = Math.min(points.length - 1, Math.max(0, (u.cursor.idx ?? points.length - 1) + by * Math.max(1, Math.round(points.length / 60))));
    u.setCursor({ left: u.valToPos(points[next]!.at / 1_000, 'x'), top: 0 });
  };

  const chosen = at === null ? undefined : points[at];
  const recent = open ? points.slice(-TABLE_ROWS).reverse() : [];
  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend" aria-hidden="true">
          {lines.map((line) => (
            <li key={line.label}>
              <svg width="14" height="8"><line x1="0" x2="14" y1="4" y2="4" stroke={`var(${line.color})`} stroke-width="2.4" stroke-dasharray={line.dash?.join(' ')} /></svg>
              {line.label}{chosen && <b>{text(line.value(chosen), show)}</b>}
            </li>
          ))}
          {chosen && <li class="when">{clock(chosen.at)}</li>}
        </ul>
      </figcaption>
      <div class="plot" ref={place} role="img" aria-label={`${title}: ${told}`} tabIndex={0} onKeyDown={step} />
      <details onToggle={(event) => opened(event.currentTarget.open)}>
        <summary>as a table<span class="hidden">: {title}</span></summary>
        <div class="scroll">
        <table>
          <thead><tr><th scope="col">time</th>{lines.map((line) => <th scope="col" class="n" key={line.label}>{line.label}</th>)}</tr></thead>
          <tbody>
            {recent.map((row) => (
              <tr key={row.at}><td>{clock(row.at)}</td>{lines.map((line) => <td class="n" key={line.label}>{text(line.value(row), show)}</td>)}</tr>
            ))}
          </tbody>
        </table>
        </div>
      </details>
    </figure>
  );
}

const text = (value: number | null, show: (n: number) => string) => (value === null ? '–' : show(value));
