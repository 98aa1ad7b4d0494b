// The login token. `hull dashboard` prints an address that carries it after the "#", so it is in no request line and no
// log. It stays in this tab's session storage, which belongs to this port alone: a cookie would go to every port.

import { h, replace } from "./dom";

const kKey = "hull-token";

export function token(): string | null {
  return sessionStorage.getItem(kKey);
}

/** The token of the address, if it has one, is taken and does not stay there. */
export function take_token_from_address(): void {
  const found = /^#token=([A-Za-z0-9_-]+)$/.exec(location.hash)?.[1];
  if (!found) return;
  sessionStorage.setItem(kKey, found);
  history.replaceState(null, "", location.pathname);
}

export async function allowed(): Promise<boolean> {
  const headers: Record<string, string> = token() ? { Authorization: `Bearer ${token()}` } : {};
  return (await fetch("/info", { headers, cache: "no-store" })).status !== 401;
}

export function login_page(place: Element, done: () => void): void {
  const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const message = h("p", { role: "alert", class: "problem" });
  const form = h("form", { class: "login", onsubmit: (event) => {
    event.preventDefault();
    sessionStorage.setItem(kKey, input.value.trim());
    void allowed().then((right) => {
      if (right) done();
      else message.textContent = "That is not the token of this hulld.";
    }, (error: Error) => (message.textContent = error.message));
  } },
    h("h1", {}, "Hull"),
    h("p", {}, "Run ", h("code", {}, "hull dashboard"), " on the host and open the address that it prints, ",
      "or give the token here."),
    h("label", { for: "token" }, "Login token"), input, h("button", { type: "submit" }, "Log in"), message);
  replace(place, h("main", { id: "main" }, form));
  input.focus();
}
