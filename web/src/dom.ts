// Building and updating elements. Text is always set as text, never as HTML: names and logs come from workloads.

export type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined | ((event: Event) => void)>;

/** An element: functions become listeners ("onclick"), true an empty attribute, false and undefined none. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

export function append(parent: Node, children: (Child | Child[])[]): void {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function replace(parent: Element, ...children: (Child | Child[])[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** One line at the bottom, read out by screen readers; errors stay longer. */
export function notify(message: string, kind: "info" | "error" = "info"): void {
  let area = document.getElementById("notices");
  if (!area) {
    area = h("div", { id: "notices", role: "status", "aria-live": "polite" });
    document.body.appendChild(area);
  }
  const notice = h("div", { class: `notice ${kind}`, ...(kind === "error" ? { role: "alert" } : {}) }, message);
  area.appendChild(notice);
  setTimeout(() => notice.remove(), kind === "error" ? 12_000 : 4_000);
}

/** A question with two buttons; the safe one has the focus. */
export function confirmed(question: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question });
    const close = (answer: boolean) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const cancel = h("button", { type: "button", onclick: () => close(false) }, "Cancel");
    append(dialog, [
      h("p", {}, question),
      h("div", { class: "row end" }, cancel,
        h("button", { type: "button", class: "danger", onclick: () => close(true) }, action)),
    ]);
    dialog.addEventListener("cancel", () => close(false));
    document.body.appendChild(dialog);
    dialog.showModal();
    cancel.focus();
  });
}
