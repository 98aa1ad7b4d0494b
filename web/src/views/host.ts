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
  const load = new Chart("Load of the last minute", ["processes"], (value) => value.toFixed(1));
  const memory = new Chart("Memory in use", ["used"], bytes);
  const stalls = ["cpu", "memory", "io"].map((resource) => ({
    resource,
    chart: new Chart(`Pressure on ${resource === "io" ? "disks" : resource === "cpu" ? "processors" : "memory"}`,
      ["stalled"], percent),
  }));
  const stop = repeat(2_000, async () => {
    const samples = parse(await text("/metrics"));
    const find = (name: string, wanted: Record<string, string> = {}) => samples.find((sample: Sample) =>
      sample.name === name && Object.entries(wanted).every(([key, value]) => sample.labels[key] === value))?.value;
    const now = Date.now() / 1000;
    const processes = find("hull_host_load1");
    if (processes !== undefined) load.add(now, [processes]);
    const total = find("hull_host_memory_bytes");
    const free = find("hull_host_memory_available_bytes");
    if (total !== undefined && free !== undefined) memory.add(now, [total - free]);
    for (const { resource, chart } of stalls) {
      const share = find("hull_host_pressure_share", { resource, kind: "some", window: "10" });
      if (share !== undefined) chart.add(now, [100 * share]);
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
      h("div", { class: "charts" }, load.element, memory.element, ...stalls.map(({ chart }) => chart.element)), list),
    close: () => {
      stop();
      load.close();
      memory.close();
      stalls.forEach(({ chart }) => chart.close());
    },
  };
}
