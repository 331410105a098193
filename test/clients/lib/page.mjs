// What a person does on ComfyUI's page: open it, run, watch, cancel, reload, and see errors. What the page shows is read from its elements.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { failing, isPNG, png, slow, textToImage } from "./graphs.mjs";

const { PAGE_URL: base, PAGE_KEY: key, PAGE_PATH_KEY: pathKey, BROWSER, PAGE_SHOTS: shots } = process.env;
const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox"] });
const patience = 60_000;

// A new user has no files yet: ComfyUI answers 404 for these too, and the browser notes each in the console.
const absent = ["/api/userdata/user.css", "/api/userdata/comfy.templates.json", "/api/userdata/workflows%2F.index.json", "/api/userdata?dir=workflows", "/api/userdata?dir=subgraphs"];

// watch opens the page and notes what goes wrong on it.
async function watch(url) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`page error: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(`console: ${message.text()}`);
  });
  page.on("response", (response) => {
    const path = response.url().slice(url.origin.length);
    if (path.startsWith("/assets/images/favicon_")) return; // behind a path the page looks for this one at the root, and works without
    if (response.url().startsWith(url.origin) && response.status() >= 400 && !absent.some((one) => path.includes(one))) {
      wrong.push(`${response.status()} ${response.request().method()} ${path}`);
    }
  });
  page.on("websocket", (socket) => socket.on("socketerror", (error) => wrong.push(`websocket: ${error}`)));
  await page.goto(url.href);
  await booted(page);
  await page.getByRole("button", { name: "Close dialog" }).click(); // templates, for who comes the first time
  await page.getByTestId("dialog-overlay").waitFor({ state: "detached" });
  return { page, context, wrong };
}

async function booted(page) {
  await page.waitForFunction(() => window.app?.vueAppReady && window.app.rootGraph);
  await page.getByTestId("queue-button").waitFor();
}

// load opens a workflow as a file, as with the menu or by dropping it.
async function load(page, graph, marker) {
  await page.setInputFiles("#comfy-file-input", { name: "clients.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(graph)) });
  await page.waitForFunction(([type, nodes]) => window.app.rootGraph.nodes.length === nodes && window.app.rootGraph.nodes.some((node) => node.type === type), [marker, Object.keys(graph).length]);
}

// run presses Run and gives the prompt's id.
async function run(page) {
  const [answer] = await Promise.all([page.waitForResponse((response) => /\/api\/prompt$/.test(response.url())), page.getByTestId("queue-button").click()]);
  return answer.ok() ? (await answer.json()).prompt_id : undefined;
}

const active = (page, count) => page.waitForFunction((n) => document.querySelector('[data-testid="queue-overlay-toggle"]').textContent.includes(`${n} active`), count);
const row = (page, id) => page.locator(`[data-job-id="${id}"]`).first();
const showQueue = async (page) => {
  if (!(await page.getByTestId("job-assets-list").isVisible())) await page.getByTestId("queue-overlay-toggle").click();
};
const job = async (page, id) => (await page.evaluate(async (one) => (await window.app.api.fetchApi(`/jobs/${one}`)).json(), id));
const shot = (page, name) => (shots ? page.screenshot({ path: `${shots}/${name}.png` }) : undefined);

// moves waits until the row of a prompt shows a node's percentage, behind the total, and then a higher one.
async function moves(page, id) {
  const above = ([one, before]) => {
    const percent = Number([...(document.querySelector(`[data-job-id="${one}"]`)?.textContent ?? "").matchAll(/(\d+)%/g)].at(1)?.[1] ?? 0);
    return percent > before && percent;
  };
  const first = await (await page.waitForFunction(above, [id, 0])).jsonValue();
  await page.waitForFunction(above, [id, first]);
}

// picture waits until the page has loaded the saved picture of a prompt.
async function picture(page, id) {
  const source = await page.waitForFunction((one) => [...document.images].find((image) => image.src.includes("/api/view") && image.src.includes(one) && image.naturalWidth > 0)?.src, id);
  const response = await page.request.get(await source.jsonValue());
  assert.ok(isPNG(await response.body()), "the picture is no PNG");
}

const steps = [];
async function step(name, action) {
  try {
    await action();
  } catch (error) {
    if (pageNow) await shot(pageNow, "failed");
    throw new Error(`${name}: ${error.message}; the page says ${JSON.stringify(noted)}`, { cause: error });
  }
  assert.deepEqual(noted.splice(0), [], `${name}: the page reports errors`);
  steps.push(name);
}

let pageNow, noted = [];
const url = new URL(`${base}/?token=${key}`); // sets a cookie
let page, context;
await step("boot", async () => {
  const watched = await watch(url);
  ({ page, context } = watched);
  pageNow = page, noted = watched.wrong;
  await shot(page, "boot");
});
await step("run, progress, preview, picture", async () => {
  await load(page, slow(20), "SimSleep");
  const id = await run(page);
  await active(page, 1);
  await showQueue(page);
  await moves(page, id);
  await page.waitForFunction((one) => [...document.querySelectorAll(`[data-job-id="${one}"] img`)].some((image) => image.src.startsWith("blob:") && image.naturalWidth > 0), id);
  await shot(page, "preview");
  await active(page, 0);
  await picture(page, id);
  assert.equal((await job(page, id)).status, "completed");
  await shot(page, "picture");
});
await step("cancel", async () => {
  await load(page, slow(60), "SimSleep");
  const id = await run(page);
  await showQueue(page);
  await moves(page, id);
  await page.getByRole("button", { name: "Cancel current run" }).click();
  await active(page, 0);
  assert.equal((await job(page, id)).status, "cancelled");
});
await step("reload during a run", async () => {
  await load(page, slow(45), "SimSleep");
  const id = await run(page);
  await showQueue(page);
  await moves(page, id);
  await page.reload();
  await booted(page);
  await active(page, 1);
  await showQueue(page);
  await row(page, id).waitFor();
  await shot(page, "reload");
  await moves(page, id);
  await active(page, 0);
  assert.equal((await job(page, id)).status, "completed");
  await showQueue(page);
  await page.waitForFunction((one) => [...document.querySelectorAll(`[data-job-id="${one}"] img`)].some((image) => image.src.includes("/api/view") && image.naturalWidth > 0), id);
});
await step("two runs on two hosts", async () => {
  await load(page, slow(40), "SimSleep");
  const long = await run(page);
  await load(page, textToImage(Date.now() % 1e9), "KSampler");
  const short = await run(page);
  await active(page, 2);
  await page.waitForFunction(async (one) => (await (await window.app.api.fetchApi(`/jobs/${one}`)).json()).status === "completed", short);
  await active(page, 1);
  await showQueue(page);
  await moves(page, long); // the end of the short one has not made it idle
  await active(page, 0);
});
await step("a node that raises", async () => {
  await load(page, failing(), "SimRaise");
  const id = await run(page);
  await page.getByText("SimRaise failed").waitFor();
  await page.getByRole("button", { name: "View details" }).click();
  await page.getByText("it is meant to fail").first().waitFor();
  await shot(page, "error");
  assert.equal((await job(page, id)).status, "failed");
});
await step("a picture that is uploaded", async () => {
  const before = await page.evaluate(() => window.app.rootGraph.nodes.length);
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url().endsWith("/upload/image")),
    page.setInputFiles("#comfy-file-input", { name: "from-page.png", mimeType: "image/png", buffer: png(48) }),
  ]);
  assert.equal((await answer.json()).name, "from-page.png");
  await page.waitForFunction((n) => window.app.rootGraph.nodes.length !== n || window.app.rootGraph.nodes.some((node) => node.type === "LoadImage"), before);
});
await step("a workflow that is saved", async () => {
  const saved = await page.evaluate(async () => (await window.app.api.storeUserData("workflows/clients.json", "{}", { overwrite: true, stringify: false })).status);
  assert.equal(saved, 200);
  await page.getByTestId("workflows-tab-button").click();
  await page.getByText("clients", { exact: true }).first().waitFor();
});
await context.close();
await step("the key in the path", async () => {
  const watched = await watch(new URL(`${base}/k/${pathKey}/`));
  pageNow = watched.page, noted = watched.wrong;
  await load(watched.page, slow(1), "SimSleep");
  const id = await run(watched.page);
  await picture(watched.page, id);
  await watched.context.close();
});
await browser.close();
console.log(steps.join(" · "));
