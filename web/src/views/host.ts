// The host: load, memory and pressure, live; the facts of /info.

import { get, text } from "../api";
import { Chart } from "../charts";
import { h, replace } from "../dom";
import { bytes, percent } from "../format";
import { type Sample, parse } from "../metrics";
import { type View, repeat } from "../view";

interface Info {
  Name: string;
  OperatingSystem: string;
  KernelVersion: string;
  Architecture: string;
  NCPU: number;
  MemTotal: number;
  ServerVersion: string;
  CgroupVersion?: string;
  DockerRootDir: string;
}

export function host(): View {
  const list = h("dl", { class: "facts" });
  const cpu = new Chart("Processors", ["used"], percent);
  const memory = new Chart("Memory in use", ["used"], bytes);
  const stalls = ["cpu", "memory", "io"].map((resource) => ({
    resource,
    chart: new Chart(`Pressure on ${resource === "io" ? "disks" : resource === "cpu" ? "processors" : "memory"}`,
      ["stalled"], percent),
  }));
  let before: { at: number; busy: number } | null = null;
  const stop = repeat(2_000, async () => {
    const samples = parse(await text("/metrics"));
    const find = (name: string, wanted: Record<string, string> = {}) => samples.find((sample: Sample) =>
      sample.name === name && Object.entries(wanted).every(([key, value]) => sample.labels[key] === value))?.value;
    const now = Date.now() / 1000;
    const busy = find("hull_host_cpu_seconds_total");
    if (busy !== undefined) {
      if (before) cpu.add(now, [(100 * Math.max(0, busy - before.busy)) / (now - before.at)]);
      before = { at: now, busy };
    }
    const total = find("hull_host_memory_bytes");
    const free = find("hull_host_memory_available_bytes");
    if (total !== undefined && free !== undefined) memory.add(now, [total - free]);
    for (const { resource, chart } of stalls) {
      const share = find("hull_host_pressure_avg10_percent", { resource, kind: "some" });
      if (share !== undefined) chart.add(now, [share]);
    }
  });
  void get<Info>("/info").then((info) => {
    const rows: [string, string][] = [
      ["Name", info.Name],
      ["System", `${info.OperatingSystem}, Linux ${info.KernelVersion}, ${info.Architecture}`],
      ["Processors", String(info.NCPU)],
      ["Memory", bytes(info.MemTotal)],
      ["Hull", info.ServerVersion],
      ["Data", info.DockerRootDir],
    ];
    replace(list, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }, () => {});
  return {
    title: "Host",
    element: h("section", {},
      h("div", { class: "charts" }, cpu.element, memory.element, ...stalls.map(({ chart }) => chart.element)), list),
    close: () => {
      stop();
      cpu.close();
      memory.close();
      stalls.forEach(({ chart }) => chart.close());
    },
  };
}
