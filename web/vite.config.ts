import { defineConfig } from "vite";

// Everything is served by hulld below /dashboard/, from files with a hash in their names; nothing is fetched from
// another host.
export default defineConfig({
  base: "/dashboard/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
