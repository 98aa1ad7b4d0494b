// The Docker Engine API of the hulld that served this page, through fetch and WebSocket, same origin only.

import { token } from "./login";

export interface Container {
  Id: string;
  Names: string[];
  Image: string;
  Command: string;
  Created: number;
  State: string;
  Status: string;
  Ports: Port[];
  Labels: Record<string, string>;
  HostConfig?: { NetworkMode?: string; Isolation?: string };
}
export interface Port {
  IP?: string;
  PrivatePort: number;
  PublicPort?: number;
  Type: string;
}
export interface ContainerDetails {
  Id: string;
  Name: string;
  Created: string;
  State: { Status: string; Running: boolean; Paused: boolean; ExitCode: number; StartedAt: string; Error: string;
    OOMKilled: boolean; Health?: { Status: string } };
  Config: { Image: string; Cmd: string[] | null; Entrypoint: string[] | null; Env: string[] | null; Tty: boolean;
    Labels: Record<string, string> | null; WorkingDir: string; User: string };
  HostConfig: { Isolation?: string; Memory: number; NanoCpus: number; NetworkMode: string;
    RestartPolicy: { Name: string } };
  NetworkSettings: { Networks: Record<string, { IPAddress: string; GlobalIPv6Address: string }> };
  Mounts: { Type: string; Source: string; Destination: string; RW: boolean; Name?: string }[];
}
export interface Image {
  Id: string;
  RepoTags: string[] | null;
  Created: number;
  Size: number;
  Containers: number;
}
export interface Network {
  Id: string;
  Name: string;
  Driver: string;
  Internal?: boolean;
  IPAM: { Config: { Subnet?: string; Gateway?: string }[] | null };
}
export interface Volume {
  Name: string;
  Driver: string;
  Mountpoint: string;
  CreatedAt?: string;
}
export interface Stats {
  read: string;
  cpu_stats: { cpu_usage: { total_usage: number }; system_cpu_usage?: number; online_cpus?: number };
  memory_stats: { usage?: number; limit?: number; stats?: Record<string, number> };
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>;
  blkio_stats: { io_service_bytes_recursive: { op: string; value: number }[] | null };
  pids_stats: { current?: number };
}
export interface EngineEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  time: number;
}

/** What the API answered instead of what was asked for. */
export class ApiError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** Called when a request is answered with "log in first". */
export const session = { expired: () => {} };

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = {};
  const request: RequestInit = { method, headers, cache: "no-store" };
  if (token()) headers["Authorization"] = `Bearer ${token()}`;
  if (signal) request.signal = signal;
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, request);
  if (response.ok || response.status === 304) return response;
  if (response.status === 401) session.expired();
  const text = await response.text();
  let message = text || response.statusText;
  try {
    message = (JSON.parse(text) as { message?: string }).message ?? message;
  } catch {
    // not JSON: the text as it is
  }
  throw new ApiError(response.status, message);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send("GET", path, undefined, signal)).json() as Promise<T>;
}
export async function post<T = void>(path: string, body?: unknown): Promise<T> {
  const text = await (await send("POST", path, body)).text();
  return (text ? JSON.parse(text) : undefined) as T;
}
export async function remove(path: string): Promise<void> {
  await send("DELETE", path);
}
export async function text(path: string, signal?: AbortSignal): Promise<string> {
  return (await send("GET", path, undefined, signal)).text();
}

/** Every piece of a streamed answer, until it ends or `signal` says so. */
async function* pieces(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const response = await send("GET", path, undefined, signal);
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}

/** One JSON document a line. */
export async function* lines<T>(path: string, signal: AbortSignal): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces(path, signal)) {
    rest += decoder.decode(piece, { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const line = rest.slice(0, end).trim();
      rest = rest.slice(end + 1);
      if (line) yield JSON.parse(line) as T;
    }
  }
}

export interface Output {
  stream: "stdout" | "stderr";
  data: Uint8Array;
}

/** Output of a workload: with a terminal bytes as they are, else frames of eight bytes of head (stream, length). */
export async function* output(path: string, tty: boolean, signal: AbortSignal): AsyncGenerator<Output> {
  let rest = new Uint8Array(0);
  for await (const piece of pieces(path, signal)) {
    if (tty) {
      yield { stream: "stdout", data: piece };
      continue;
    }
    const joined = new Uint8Array(rest.length + piece.length);
    joined.set(rest);
    joined.set(piece, rest.length);
    let at = 0;
    while (joined.length - at >= 8) {
      const length = new DataView(joined.buffer, at + 4, 4).getUint32(0);
      if (joined.length - at - 8 < length) break;
      yield { stream: joined[at] === 2 ? "stderr" : "stdout", data: joined.slice(at + 8, at + 8 + length) };
      at += 8 + length;
    }
    rest = joined.slice(at);
  }
}

export function socket(path: string): WebSocket {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  // A page can't give a WebSocket headers; the token goes as a protocol beside the one that is spoken.
  const protocols = ["hull", ...(token() ? [`token.${token()}`] : [])];
  const result = new WebSocket(`${scheme}//${location.host}${path}`, protocols);
  result.binaryType = "arraybuffer";
  return result;
}

export function name_of(container: Container): string {
  return (container.Names[0] ?? container.Id.slice(0, 12)).replace(/^\//, "");
}
export function is_machine(container: { HostConfig?: { Isolation?: string } }): boolean {
  return container.HostConfig?.Isolation === "vm";
}
