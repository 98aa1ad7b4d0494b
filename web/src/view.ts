// What a page of the dashboard is.

export interface View {
  title: string;
  element: HTMLElement;
  /** Something happened on the host: look again. */
  refresh?: () => void;
  close?: () => void;
}

/** Calls `work` now and then every `period` milliseconds while the page is visible; never twice at once. */
export function repeat(period: number, work: () => Promise<void>): () => void {
  let stopped = false;
  let timer = 0;
  const turn = async () => {
    if (stopped) return;
    if (!document.hidden) await work().catch(() => {});
    if (!stopped) timer = window.setTimeout(() => void turn(), period);
  };
  void turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Runs `work` soon, once for any number of calls meanwhile. */
export function gathered(delay: number, work: () => void): () => void {
  let timer = 0;
  return () => {
    if (timer) return;
    timer = window.setTimeout(() => {
      timer = 0;
      work();
    }, delay);
  };
}
