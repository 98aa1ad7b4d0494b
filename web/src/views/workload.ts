// One workload: live charts, logs that follow, a terminal, and what it is made of.

import { type ContainerDetails, type Stats, get, lines, output } from "../api";
import { Chart } from "../charts";
import { append, h, notify, replace } from "../dom";
import { bytes, percent } from "../format";
import { open_terminal } from "../terminal";
import type { View } from "../view";
import { actions, kind_badge, state_badge } from "./workloads";

const kTabs = ["Overview", "Logs", "Terminal"] as const;
type Tab = (typeof kTabs)[number];
const kMostLogLines = 5_000;

interface Panel {
  element: HTMLElement;
  close: () => void;
}

function sum(stats: Stats, direction: "rx_bytes" | "tx_bytes"): number {
  return Object.values(stats.networks ?? {}).reduce((total, network) => total + network[direction], 0);
}
function disk(stats: Stats, operation: string): number {
  return (stats.blkio_stats.io_service_bytes_recursive ?? [])
    .filter((entry) => entry.op.toLowerCase() === operation)
    .reduce((total, entry) => total + entry.value, 0);
}

/** Charts that the stream of stats feeds, once a second. */
function charts(id: string): Panel {
  const cpu = new Chart("Processor", ["used"], percent);
  const memory = new Chart("Memory", ["used"], bytes);
  const network = new Chart("Network, per second", ["in", "out"], bytes);
  const storage = new Chart("Disk, per second", ["read", "written"], bytes);
  const all = [cpu, memory, network, storage];
  const stop = new AbortController();
  void (async () => {
    let last: Stats | null = null;
    for await (const stats of lines<Stats>(`/containers/${id}/stats?stream=1`, stop.signal)) {
      const when = Date.parse(stats.read) / 1000;
      if (!(when > 0)) continue;
      const cache = stats.memory_stats.stats?.["inactive_file"] ?? 0;
      memory.add(when, [Math.max(0, (stats.memory_stats.usage ?? 0) - cache)]);
      if (last) {
        const passed = when - Date.parse(last.read) / 1000;
        const rate = (now: number, before: number) => (passed > 0 ? Math.max(0, now - before) / passed : 0);
        cpu.add(when, [rate(stats.cpu_stats.cpu_usage.total_usage, last.cpu_stats.cpu_usage.total_usage) / 1e7]);
        network.add(when, [rate(sum(stats, "rx_bytes"), sum(last, "rx_bytes")),
          rate(sum(stats, "tx_bytes"), sum(last, "tx_bytes"))]);
        storage.add(when, [rate(disk(stats, "read"), disk(last, "read")),
          rate(disk(stats, "write"), disk(last, "write"))]);
      }
      last = stats;
    }
  })().catch((error: Error) => {
    if (!stop.signal.aborted) notify(error.message, "error");
  });
  return {
    element: h("div", { class: "charts" }, ...all.map((chart) => chart.element)),
    close: () => {
      stop.abort();
      all.forEach((chart) => chart.close());
    },
  };
}

function facts(details: ContainerDetails): HTMLElement {
  const command = [...(details.Config.Entrypoint ?? []), ...(details.Config.Cmd ?? [])].join(" ");
  const rows: [string, string | HTMLElement][] = [
    ["Id", details.Id],
    ["Image", details.Config.Image],
    ["Command", command],
    ["Working folder", details.Config.WorkingDir || "/"],
    ["User", details.Config.User || "root"],
    ["Restart policy", details.HostConfig.RestartPolicy.Name || "no"],
    ["Memory limit", details.HostConfig.Memory > 0 ? bytes(details.HostConfig.Memory) : "none"],
    ["Processors", details.HostConfig.NanoCpus > 0 ? String(details.HostConfig.NanoCpus / 1e9) : "all"],
    ...Object.entries(details.NetworkSettings.Networks).map(([name, network]): [string, string] =>
      [`Network ${name}`, [network.IPAddress, network.GlobalIPv6Address].filter(Boolean).join(", ") || "no address"]),
    ...details.Mounts.map((mount): [string, string] =>
      [`Mount ${mount.Destination}`, `${mount.Name ?? mount.Source}${mount.RW ? "" : " (read-only)"}`]),
    ...Object.entries(details.Config.Labels ?? {}).map(([name, value]): [string, string] => [`Label ${name}`, value]),
  ];
  return h("dl", { class: "facts" },
    ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", { class: "mono" }, value)]));
}

function overview(details: ContainerDetails): Panel {
  const live = details.State.Running ? charts(details.Id) : null;
  const environment = details.Config.Env ?? [];
  return {
    element: h("div", {}, live?.element,
      !details.State.Running && h("p", {}, `Ended with exit code ${details.State.ExitCode}` +
        `${details.State.OOMKilled ? ", killed for want of memory" : ""}` +
        `${details.State.Error ? `: ${details.State.Error}` : "."}`),
      facts(details),
      environment.length > 0 && h("details", {}, h("summary", {}, "Environment"),
        h("pre", {}, environment.join("\n")))),
    close: () => live?.close(),
  };
}

function logs(details: ContainerDetails): Panel {
  const stop = new AbortController();
  const follow = h("input", { type: "checkbox", id: "follow", checked: true });
  const box = h("pre", { class: "log", tabindex: 0, role: "log", "aria-label": "Log" });
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  void (async () => {
    const path = `/containers/${details.Id}/logs?stdout=1&stderr=1&follow=1&tail=1000`;
    for await (const { stream, data } of output(path, details.Config.Tty, stop.signal)) {
      const piece = decoders[stream].decode(data, { stream: true });
      box.appendChild(h("span", stream === "stderr" ? { class: "stderr" } : {}, piece));
      while (box.childElementCount > kMostLogLines) box.firstElementChild?.remove();
      if (follow.checked) box.scrollTop = box.scrollHeight;
    }
  })().catch((error: Error) => {
    if (!stop.signal.aborted) notify(error.message, "error");
  });
  return {
    element: h("div", {}, h("label", { for: "follow" }, follow, " scroll to what is new"), box),
    close: () => stop.abort(),
  };
}

function terminal(details: ContainerDetails): Panel {
  if (!details.State.Running) {
    return { element: h("p", { class: "muted" }, "A terminal needs a running workload."), close: () => {} };
  }
  const place = h("div");
  let session: { element: HTMLElement; close: () => void } | null = null;
  const command = h("input", { id: "command", value: "/bin/sh", class: "mono", spellcheck: false });
  const form = h("form", { class: "row", onsubmit: (event) => {
    event.preventDefault();
    session?.close();
    session = open_terminal(details.Id, command.value.split(/\s+/).filter(Boolean));
    replace(place, session.element);
  } }, h("label", { for: "command" }, "Command"), command, h("button", { type: "submit" }, "Open"));
  return { element: h("div", {}, form, place), close: () => session?.close() };
}

export function workload(id: string): View {
  const head = h("div", { class: "head" });
  const tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Views of the workload" });
  const place = h("div", { role: "tabpanel", tabindex: -1 });
  let tab: Tab = "Overview";
  let panel: Panel | null = null;
  let details: ContainerDetails | null = null;
  let shown = "";

  const show = () => {
    if (!details) return;
    panel?.close();
    panel = { Overview: overview, Logs: logs, Terminal: terminal }[tab](details);
    replace(place, panel.element);
    place.setAttribute("aria-label", tab);
    for (const button of tabs.querySelectorAll("button")) {
      const chosen = button.textContent === tab;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
  };
  const choose = (wanted: Tab) => {
    tab = wanted;
    show();
  };
  append(tabs, kTabs.map((name) => h("button", { type: "button", role: "tab", onclick: () => choose(name) }, name)));
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = kTabs[(kTabs.indexOf(tab) + step + kTabs.length) % kTabs.length]!;
    choose(next);
    [...tabs.querySelectorAll("button")].find((button) => button.textContent === next)?.focus();
  });

  const load = async () => {
    try {
      details = await get<ContainerDetails>(`/containers/${id}/json`);
    } catch (error) {
      panel?.close();
      panel = null;
      replace(head, h("p", {}, (error as Error).message, " ", h("a", { href: "#/workloads" }, "All workloads")));
      replace(place);
      tabs.hidden = true;
      return;
    }
    const name = details.Name.replace(/^\//, "");
    replace(head, h("h2", {}, name), kind_badge(details.HostConfig.Isolation === "vm"),
      state_badge(details.State.Status, details.State.Health?.Status),
      actions({ id: details.Id, name, state: details.State.Status }, () => void load()));
    // A running terminal or log stays as it is while only the head changes.
    const state = `${details.Id} ${details.State.Running} ${details.State.StartedAt}`;
    if (state !== shown) show();
    shown = state;
  };
  void load();
  return {
    title: "Workload",
    element: h("section", {}, h("p", {}, h("a", { href: "#/workloads" }, "← All workloads")), head, tabs, place),
    refresh: () => void load(),
    close: () => panel?.close(),
  };
}
