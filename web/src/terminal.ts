// A shell inside a workload: an exec with a terminal, over a WebSocket.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";

import { post, socket } from "./api";
import { h, notify } from "./dom";

/** An element with the terminal in it; `close` ends the session. */
export function open_terminal(workload: string, command: string[]): { element: HTMLElement; close: () => void } {
  const place = h("div", { class: "terminal", role: "group", "aria-label": "Terminal" });
  const terminal = new Terminal({ cursorBlink: true, fontSize: 13, screenReaderMode: true, scrollback: 5000 });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  let connection: WebSocket | null = null;
  let closed = false;

  const start = async () => {
    terminal.open(place);
    fit.fit();
    terminal.focus();
    const exec = await post<{ Id: string }>(`/containers/${workload}/exec`, {
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Tty: true,
      Cmd: command,
      Env: ["TERM=xterm-256color"],
    });
    if (closed) return;
    connection = socket(`/exec/${exec.Id}/ws?h=${terminal.rows}&w=${terminal.cols}`);
    connection.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      terminal.write(typeof event.data === "string" ? event.data : new Uint8Array(event.data));
    };
    const resize = () => {
      const size = `h=${terminal.rows}&w=${terminal.cols}`;
      if (connection) void post(`/exec/${exec.Id}/resize?${size}`).catch(() => {});
    };
    connection.onclose = () => {
      connection = null;
      terminal.write("\r\n\x1b[2m(the session has ended)\x1b[0m\r\n");
    };
    const encoder = new TextEncoder();
    terminal.onData((data) => connection?.send(encoder.encode(data)));
    terminal.onResize(resize);
  };
  const observer = new ResizeObserver(() => fit.fit());
  requestAnimationFrame(() => {
    start().then(
      () => observer.observe(place),
      (error: Error) => notify(error.message, "error"),
    );
  });
  return {
    element: place,
    close: () => {
      closed = true;
      observer.disconnect();
      connection?.close();
      terminal.dispose();
    },
  };
}
