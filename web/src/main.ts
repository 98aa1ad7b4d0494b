// The frame around the pages: navigation, the stream of events, light and dark.

import "./style.css";

import { type EngineEvent, lines, session } from "./api";
import { h, replace } from "./dom";
import { allowed, login_page, take_token_from_address } from "./login";
import { type View, gathered } from "./view";
import { events, remember } from "./views/events";
import { host } from "./views/host";
import { images, networks, volumes } from "./views/tables";
import { workload } from "./views/workload";
import { workloads } from "./views/workloads";

const kPages: [path: string, label: string, make: () => View][] = [
  ["workloads", "Workloads", workloads],
  ["images", "Images", images],
  ["networks", "Networks", networks],
  ["volumes", "Volumes", volumes],
  ["events", "Events", events],
  ["host", "Host", host],
];

const app = document.getElementById("app")!;
const main = h("main", { id: "main", tabindex: -1 });
const heading = h("h1");
const connection = h("span", { class: "connection", role: "status" });
let current: View | null = null;
let watching: AbortController | null = null;

function route(): View {
  const [page = "", id] = location.hash.replace(/^#\/?/, "").split("/");
  if (page === "workloads" && id) return workload(decodeURIComponent(id));
  return (kPages.find(([path]) => path === page) ?? kPages[0]!)[2]();
}

function navigate(): void {
  current?.close?.();
  current = route();
  document.title = `${current.title} · Hull`;
  heading.textContent = current.title;
  replace(main, heading, current.element);
  const page = location.hash.replace(/^#\/?/, "").split("/")[0] || "workloads";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.focus({ preventScroll: true });
}

/** Follows the events for ever; each makes the page look again, at most three times a second. */
async function watch(stop: AbortSignal): Promise<void> {
  const look = gathered(300, () => current?.refresh?.());
  let since = Math.floor(Date.now() / 1000) - 3600;
  for (let delay = 1_000; !stop.aborted; delay = Math.min(delay * 2, 15_000)) {
    try {
      connection.textContent = "";
      for await (const event of lines<EngineEvent>(`/events?since=${since}`, stop)) {
        delay = 1_000;
        since = event.time + 1;
        remember(event);
        if (!event.Action.startsWith("exec_")) look();
      }
    } catch {
      if (stop.aborted) return;
    }
    connection.textContent = "No connection to hulld. Trying again.";
    await new Promise((resolve) => setTimeout(resolve, delay));
    look();
  }
}

const kDark = matchMedia("(prefers-color-scheme: dark)");

/** Light or dark: what was chosen here, else what the system says. */
function apply_theme(): void {
  document.documentElement.dataset["theme"] = localStorage.getItem("theme") ?? (kDark.matches ? "dark" : "light");
  if (current) navigate();  // charts take their colours when they are made
}

function theme_button(): HTMLElement {
  return h("button", { type: "button", class: "quiet", "aria-label": "Light or dark", onclick: () => {
    localStorage.setItem("theme", document.documentElement.dataset["theme"] === "dark" ? "light" : "dark");
    apply_theme();
  } }, "◐");
}

function frame(): void {
  watching?.abort();
  watching = new AbortController();
  replace(app,
    h("header", {},
      h("a", { class: "brand", href: "#/workloads" }, "Hull"),
      h("nav", { "aria-label": "Pages" },
        ...kPages.map(([path, label]) => h("a", { href: `#/${path}` }, label))),
      connection, theme_button()),
    main);
  navigate();
  void watch(watching.signal);
}

session.expired = () => {
  if (document.querySelector(".login")) return;
  watching?.abort();
  current?.close?.();
  current = null;
  login_page(app, frame);
};

async function begin(): Promise<void> {
  take_token_from_address();
  if (await allowed()) frame();
  else session.expired();
}

window.addEventListener("hashchange", () => {
  if (current) navigate();
});
kDark.addEventListener("change", apply_theme);
apply_theme();
void begin();
