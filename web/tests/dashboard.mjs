// Drives the dashboard in Debian's Chromium. tests/conformance/test_dashboard.py starts hulld and workloads, and gives:
//   DASHBOARD  the address with the token     CHROMIUM  the browser
//   MODULES    the folder of playwright-core  PICTURES  a folder for screenshots
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(join(process.env.MODULES, "package.json"))("playwright-core");
const address = process.env.DASHBOARD;
const origin = new URL(address).origin;
const picture = (page, name) => page.screenshot({ path: join(process.env.PICTURES, `${name}.png`) });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

const problems = [];
async function open(options = {}, url = address) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(origin) && !to.startsWith(origin.replace("http", "ws")) && !to.startsWith("data:")) {
      problems.push(`a request to ${to}`);
    }
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().includes("401")) problems.push(message.text());
  });
  await page.goto(url);
  return page;
}
const row = (page, name) => page.getByRole("row").filter({ has: page.getByRole("link", { name, exact: true }) });

const tests = {
  async "both kinds are listed, and the token leaves the address"() {
    const page = await open();
    await row(page, "web").waitFor();
    assert.match(await row(page, "web").innerText(), /container/);
    assert.match(await row(page, "machine").innerText(), /VM/);
    assert.ok(!page.url().includes("token"));
    await page.getByRole("cell", { name: /MiB|KiB/ }).first().waitFor();
    await picture(page, "workloads");
    await page.getByRole("searchbox").fill("mach");
    await row(page, "web").waitFor({ state: "detached" });
    await row(page, "machine").waitFor();
  },
  async "charts move"() {
    const page = await open();
    await page.getByRole("link", { name: "web", exact: true }).click();
    const memory = page.getByRole("figure").filter({ hasText: "Memory" });
    await memory.getByText(/\d (B|KiB|MiB)/).waitFor();
    await page.getByRole("figure").filter({ hasText: "Processor" }).getByText(/\d %/).waitFor();
    await page.waitForTimeout(3_000);
    await picture(page, "workload");
    await page.getByRole("link", { name: "Host" }).click();
    await page.getByRole("figure").filter({ hasText: "Memory in use" }).getByText(/\d/).first().waitFor();
  },
  async "logs follow"() {
    const page = await open();
    await page.getByRole("link", { name: "web", exact: true }).click();
    await page.getByRole("tab", { name: "Logs" }).click();
    const log = page.getByRole("log");
    await log.getByText("tick").first().waitFor();
    const before = (await log.innerText()).length;
    await page.waitForFunction((size) => document.querySelector(".log").textContent.length > size, before);
    await log.locator(".stderr").first().waitFor();
  },
  async "a terminal inside"() {
    const page = await open();
    await page.getByRole("link", { name: "web", exact: true }).click();
    await page.getByRole("tab", { name: "Terminal" }).click();
    await page.getByRole("button", { name: "Open" }).click();
    await page.locator(".xterm-helper-textarea").waitFor();
    await page.waitForTimeout(500);
    await page.keyboard.type("echo answer $((6*7)); stty size\n");
    await page.waitForFunction(() => /answer 42[\s\S]*\d+ \d+/.test(document.querySelector(".terminal").innerText));
    await picture(page, "terminal");
    await page.keyboard.type("exit\n");
    await page.getByText("(the session has ended)").first().waitFor();
  },
  async "stop and start"() {
    const page = await open();
    await page.getByRole("button", { name: "Stop other" }).click();
    await row(page, "other").getByText(/exited/).waitFor();
    await page.getByRole("button", { name: "Start other" }).click();
    await row(page, "other").getByText(/running/).waitFor();
    await page.getByRole("button", { name: "Remove other" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await row(page, "other").getByText(/running/).waitFor();
    await page.getByRole("button", { name: "Remove other" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await row(page, "other").waitFor({ state: "detached" });
    await page.getByRole("link", { name: "Events" }).click();
    await page.getByRole("cell", { name: "destroy" }).first().waitFor();
  },
  async "images, networks, volumes"() {
    const page = await open();
    for (const [name, text] of [["Images", "hull-demo"], ["Networks", "bridge"], ["Volumes", "kept"]]) {
      await page.getByRole("link", { name }).click();
      await page.getByRole("cell", { name: new RegExp(text) }).first().waitFor();
    }
  },
  async "nobody without the token"() {
    const page = await open({}, `${origin}/dashboard/`);
    await page.getByLabel("Login token").fill("0".repeat(64));
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("That is not the token of this hulld.").waitFor();
    const status = await page.evaluate(async () => (await fetch("/containers/json")).status);
    assert.equal(status, 401);
    const other = await open({}, `${origin}/dashboard/`);
    await other.getByLabel("Login token").fill(new URL(address).hash.slice("#token=".length));
    await other.getByRole("button", { name: "Log in" }).click();
    await row(other, "web").waitFor();
  },
  async "by keyboard alone"() {
    const page = await open();
    await row(page, "web").waitFor();
    for (let i = 0; i < 40; ++i) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement.textContent) === "web") break;
    }
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "web" }).waitFor();
    const tab = page.getByRole("tab", { name: "Overview" });
    await tab.focus();
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.getByRole("tab", { name: "Logs" }).getAttribute("aria-selected"), "true");
    await page.getByRole("log").waitFor();
  },
  async "on a phone, in the dark"() {
    const page = await open({ viewport: { width: 390, height: 800 }, colorScheme: "dark" });
    await row(page, "web").waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(ground, "rgb(15, 19, 24)");
    await picture(page, "phone");
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  problems.length = 0;
  try {
    await test();
    assert.deepEqual(problems, []);
    console.log(`ok ${name}`);
  } catch (error) {
    ++failed;
    console.log(`not ok ${name}: ${error.message}`);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) await picture(page, `failed-${failed}`).catch(() => {});
    }
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
process.exit(failed ? 1 : 0);
