// What happens on the host, newest first.

import type { EngineEvent } from "../api";
import { h } from "../dom";
import { short } from "../format";
import type { View } from "../view";

const kKept = 500;
const kRecent: EngineEvent[] = [];
const kListeners = new Set<() => void>();

/** Called for every event of the stream, whichever page is shown. */
export function remember(event: EngineEvent): void {
  kRecent.unshift(event);
  kRecent.length = Math.min(kRecent.length, kKept);
  kListeners.forEach((listener) => listener());
}

export function events(): View {
  const body = h("tbody");
  const row = (event: EngineEvent) => h("tr", {},
    h("td", { "data-label": "Time" }, new Date(event.time * 1000).toLocaleTimeString()),
    h("td", { "data-label": "Kind" }, event.Type),
    h("td", { "data-label": "What" }, event.Action),
    h("td", { "data-label": "On", class: "mono" }, event.Actor.Attributes["name"] ?? short(event.Actor.ID)));
  const newest = () => {
    if (kRecent[0]) body.prepend(row(kRecent[0]));
    while (body.childElementCount > kKept) body.lastElementChild?.remove();
  };
  body.append(...kRecent.map(row));
  kListeners.add(newest);
  return {
    title: "Events",
    element: h("section", {},
      h("p", { class: "muted" }, "Since an hour before this page was opened; hull events tells more."),
      h("table", { class: "cards" },
        h("thead", {}, h("tr", {}, ...["Time", "Kind", "What", "On"].map((title) => h("th", { scope: "col" }, title)))),
        body)),
    close: () => kListeners.delete(newest),
  };
}
