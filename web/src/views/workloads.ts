// All workloads, both kinds, with what they take of the host now.

import { type Container, get, is_machine, name_of, post, remove, text } from "../api";
import { confirmed, h, notify, replace } from "../dom";
import { ago, bytes, percent } from "../format";
import { type Sample, parse } from "../metrics";
import { type View, repeat } from "../view";

interface Use {
  cpu?: number;  // per cent of one processor
  memory?: number;
}

/** Start, stop and the like; also used by a workload's own page. */
export function actions(workload: { id: string; name: string; state: string }, done: () => void): HTMLElement {
  const act = async (work: () => Promise<void>, said: string) => {
    try {
      await work();
      notify(`${workload.name}: ${said}`);
    } catch (error) {
      notify((error as Error).message, "error");
    }
    done();
  };
  const call = (verb: string, said: string) =>
    () => void act(() => post(`/containers/${workload.id}/${verb}`), said);
  const running = workload.state === "running" || workload.state === "restarting";
  const button = (label: string, onclick: () => void, kind = "") =>
    h("button", { type: "button", class: kind, onclick, "aria-label": `${label} ${workload.name}` }, label);
  return h("div", { class: "actions" },
    !running && workload.state !== "paused" && button("Start", call("start", "started")),
    running && button("Stop", call("stop", "stopped")),
    running && button("Restart", call("restart", "restarted")),
    running && button("Pause", call("pause", "paused")),
    workload.state === "paused" && button("Resume", call("unpause", "resumed")),
    button("Remove", () => void (async () => {
      if (!(await confirmed(`Remove ${workload.name} and all that it has written?`, "Remove"))) return;
      await act(() => remove(`/containers/${workload.id}?force=1&v=1`), "removed");
    })(), "danger"));
}

export function state_badge(state: string, health?: string): HTMLElement {
  return h("span", { class: `badge ${health === "unhealthy" ? "unhealthy" : state}` },
    health && health !== "none" ? `${state}, ${health}` : state);
}

export function kind_badge(machine: boolean): HTMLElement {
  return h("span", { class: `badge kind ${machine ? "vm" : "container"}` }, machine ? "VM" : "container");
}

function ports(container: Container): string {
  const seen = new Set<string>();
  for (const port of container.Ports) {
    if (port.PublicPort) seen.add(`${port.PublicPort}→${port.PrivatePort}/${port.Type}`);
  }
  return [...seen].join(", ");
}

export function workloads(): View {
  let containers: Container[] = [];
  let uses = new Map<string, Use>();
  let before = new Map<string, { cpu: number; at: number }>();
  const search = h("input", { type: "search", placeholder: "Filter by name or image", "aria-label": "Filter",
    oninput: () => draw() });
  const all = h("input", { type: "checkbox", id: "all", checked: true, onchange: () => draw() });
  const count = h("p", { class: "muted", role: "status" });
  const body = h("tbody");
  const table = h("table", { class: "cards" },
    h("thead", {}, h("tr", {},
      ...["Name", "Kind", "Image", "State", "Processor", "Memory", "Ports", "Created", "Actions"].map((title) =>
        h("th", { scope: "col" }, title)))),
    body);

  const row = (container: Container) => {
    const name = name_of(container);
    const use = uses.get(container.Id);
    return h("tr", {},
      h("th", { scope: "row", "data-label": "Name" }, h("a", { href: `#/workloads/${container.Id}` }, name)),
      h("td", { "data-label": "Kind" }, kind_badge(is_machine(container))),
      h("td", { "data-label": "Image", class: "mono" }, container.Image),
      h("td", { "data-label": "State" }, state_badge(container.State), " ",
        h("span", { class: "muted" }, container.Status)),
      h("td", { "data-label": "Processor", class: "number" }, use?.cpu === undefined ? "" : percent(use.cpu)),
      h("td", { "data-label": "Memory", class: "number" }, use?.memory === undefined ? "" : bytes(use.memory)),
      h("td", { "data-label": "Ports", class: "mono" }, ports(container)),
      h("td", { "data-label": "Created" }, ago(container.Created)),
      h("td", { "data-label": "Actions" },
        actions({ id: container.Id, name, state: container.State }, () => void load())));
  };

  const draw = () => {
    const wanted = search.value.toLowerCase();
    const shown = containers.filter((container) =>
      (all.checked || container.State === "running") &&
      (name_of(container).toLowerCase().includes(wanted) || container.Image.toLowerCase().includes(wanted)));
    const running = containers.filter((container) => container.State === "running").length;
    count.textContent = `${containers.length} workloads, ${running} running` +
      (shown.length === containers.length ? "" : `, ${shown.length} shown`);
    const focused = document.activeElement?.getAttribute("aria-label");
    replace(body, shown.length > 0 ? shown.map(row)
      : h("tr", {}, h("td", { colspan: 9, class: "muted" },
        containers.length === 0 ? "Nothing here yet. Start something: hull run -d --name web IMAGE"
          : "No workload matches.")));
    if (focused) body.querySelector<HTMLElement>(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  };

  const load = async () => {
    try {
      containers = await get<Container[]>("/containers/json?all=1");
      draw();
    } catch (error) {
      notify((error as Error).message, "error");
    }
  };
  const measure = async () => {
    const now = performance.now() / 1000;
    const next = new Map<string, { cpu: number; at: number }>();
    const fresh = new Map<string, Use>();
    const use = (sample: Sample) => {
      const id = sample.labels["id"] ?? "";
      const known = fresh.get(id) ?? {};
      fresh.set(id, known);
      return known;
    };
    for (const sample of parse(await text("/metrics"))) {
      if (sample.name === "hull_workload_memory_bytes") use(sample).memory = sample.value;
      if (sample.name !== "hull_workload_cpu_seconds_total") continue;
      const id = sample.labels["id"] ?? "";
      const last = before.get(id);
      next.set(id, { cpu: sample.value, at: now });
      if (last) use(sample).cpu = (100 * Math.max(0, sample.value - last.cpu)) / (now - last.at);
    }
    before = next;
    uses = fresh;
    draw();
  };

  void load();
  const stop = repeat(3_000, measure);
  return {
    title: "Workloads",
    element: h("section", {},
      h("div", { class: "row" }, search,
        h("label", { for: "all" }, all, " also those that have ended")),
      count, table),
    refresh: () => void load(),
    close: stop,
  };
}
