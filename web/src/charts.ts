// Lines over the last minutes. uPlot draws; a table of the newest values beside each chart serves screen readers.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { h } from "./dom";

const kKept = 180;  // samples: three minutes at one a second
const kColours = ["--series-1", "--series-2"];

export class Chart {
  readonly element: HTMLElement;
  private readonly plot: uPlot;
  private readonly data: (number | null)[][];
  private readonly latest: HTMLElement;
  private readonly observer: ResizeObserver;

  constructor(title: string, private readonly series: string[], private readonly show: (value: number) => string) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    this.data = [[], ...series.map(() => [])];
    const area = h("div", { class: "plot", "aria-hidden": "true" });
    this.latest = h("p", { class: "latest" });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, title), this.latest, area);
    this.plot = new uPlot(
      {
        width: 320,
        height: 120,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [
          { ...axis, size: 22, space: 60 },
          { ...axis, size: 64, space: 32, values: (_plot, values) => values.map((value) => show(value)) },
        ],
        series: [
          {},
          ...series.map((label, index) => ({
            label,
            stroke: colour(kColours[index] ?? "--series-1"),
            width: 1.5,
            points: { show: false },
          })),
        ],
      },
      this.data as uPlot.AlignedData,
      area,
    );
    this.observer = new ResizeObserver(() => {
      if (area.clientWidth > 0) this.plot.setSize({ width: area.clientWidth, height: 120 });
    });
    this.observer.observe(area);
  }

  /** `when` in seconds since 1970. */
  add(when: number, values: number[]): void {
    [when, ...values].forEach((value, index) => {
      const column = this.data[index]!;
      column.push(Number.isFinite(value) ? value : null);
      if (column.length > kKept) column.shift();
    });
    this.plot.setData(this.data as uPlot.AlignedData);
    this.latest.textContent = values
      .map((value, index) => (this.series.length > 1 ? `${this.series[index]} ` : "") + this.show(value))
      .join(" · ");
  }

  close(): void {
    this.observer.disconnect();
    this.plot.destroy();
  }
}
