// Images, networks and volumes: a table each, with what can be removed.

import { type Image, type Network, type Volume, get, remove } from "../api";
import { type Child, confirmed, h, notify, replace } from "../dom";
import { ago, bytes, short } from "../format";
import type { View } from "../view";

interface Listing<T> {
  title: string;
  columns: string[];
  empty: string;
  load: () => Promise<T[]>;
  cells: (item: T) => Child[];
  name: (item: T) => string;
  /** The path to DELETE; nothing when it can't be removed. */
  path: (item: T) => string | null;
}

function listing<T>(what: Listing<T>): View {
  const body = h("tbody");
  const count = h("p", { class: "muted", role: "status" });
  const load = async () => {
    try {
      const items = await what.load();
      count.textContent = `${items.length} ${what.title.toLowerCase()}`;
      replace(body, items.length === 0
        ? h("tr", {}, h("td", { colspan: what.columns.length + 1, class: "muted" }, what.empty))
        : items.map(row));
    } catch (error) {
      notify((error as Error).message, "error");
    }
  };
  const row = (item: T) => {
    const path = what.path(item);
    const erase = async () => {
      if (!path || !(await confirmed(`Remove ${what.name(item)}?`, "Remove"))) return;
      try {
        await remove(path);
      } catch (error) {
        notify((error as Error).message, "error");
      }
      await load();
    };
    return h("tr", {},
      ...what.cells(item).map((cell, index) =>
        h("td", { "data-label": what.columns[index] ?? "" }, cell)),
      h("td", { "data-label": "Actions" }, path !== null &&
        h("button", { type: "button", class: "danger", "aria-label": `Remove ${what.name(item)}`,
          onclick: () => void erase() }, "Remove")));
  };
  void load();
  return {
    title: what.title,
    element: h("section", {}, count, h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ...[...what.columns, "Actions"].map((title) => h("th", { scope: "col" }, title)))),
      body)),
    refresh: () => void load(),
  };
}

export function images(): View {
  const name = (image: Image) => image.RepoTags?.[0] ?? short(image.Id);
  return listing<Image>({
    title: "Images",
    columns: ["Name", "Id", "Size", "Created"],
    empty: "No images yet. Fetch one: hull pull IMAGE",
    load: () => get("/images/json"),
    cells: (image) => [(image.RepoTags ?? []).join(", ") || "(no name)",
      h("span", { class: "mono" }, short(image.Id)), bytes(image.Size), ago(image.Created)],
    name,
    path: (image) => `/images/${encodeURIComponent(name(image))}`,
  });
}

export function networks(): View {
  return listing<Network>({
    title: "Networks",
    columns: ["Name", "Id", "Driver", "Subnets", "Reach"],
    empty: "No networks.",
    load: () => get("/networks"),
    cells: (network) => [network.Name, h("span", { class: "mono" }, short(network.Id)), network.Driver,
      h("span", { class: "mono" }, (network.IPAM.Config ?? []).map((each) => each.Subnet ?? "").join(", ")),
      network.Internal ? "internal" : "outside too"],
    name: (network) => network.Name,
    path: (network) => (["bridge", "host", "none"].includes(network.Name) ? null : `/networks/${network.Id}`),
  });
}

export function volumes(): View {
  return listing<Volume>({
    title: "Volumes",
    columns: ["Name", "Driver", "Folder on the host", "Created"],
    empty: "No volumes.",
    load: async () => (await get<{ Volumes: Volume[] | null }>("/volumes")).Volumes ?? [],
    cells: (volume) => [volume.Name, volume.Driver, h("span", { class: "mono" }, volume.Mountpoint),
      volume.CreatedAt ? ago(Date.parse(volume.CreatedAt) / 1000) : ""],
    name: (volume) => volume.Name,
    path: (volume) => `/volumes/${encodeURIComponent(volume.Name)}`,
  });
}
