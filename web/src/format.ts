// Numbers for people.

const kUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count: number): string {
  let unit = 0;
  while (count >= 1024 && unit < kUnits.length - 1) {
    count /= 1024;
    ++unit;
  }
  return `${unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)} ${kUnits[unit]}`;
}

export function percent(value: number): string {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** "3 minutes ago" of seconds since 1970. */
export function ago(seconds: number, now = Date.now() / 1000): string {
  const passed = Math.max(0, now - seconds);
  for (const [size, name] of [[86_400, "day"], [3_600, "hour"], [60, "minute"]] as const) {
    const count = Math.floor(passed / size);
    if (count >= 1) return `${count} ${name}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

export function short(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}
