// needs: @saintno/comfyui-sdk@0.3.1 ws@8.22.0
// With a bearer token: ready, run with progress and previews, the picture, a failure, an upload, a cancel, user data.
import assert from "node:assert/strict";
import { CallWrapper, ComfyApi, ComfyPool, EQueueMode, PromptBuilder } from "@saintno/comfyui-sdk";
import { failing, invert, isPNG, png, slow, textToImage } from "./lib/graphs.mjs";

const connect = () => new ComfyApi(process.env.GATEWAY_URL, crypto.randomUUID(), { credentials: { type: "bearer_token", token: process.env.GATEWAY_KEY } });
const api = connect();
await api.init().waitForReady();

// run gives what the wrapper reports about a graph.
function run(graph, node, started, by = api) {
  const seen = { progress: 0, previews: 0, pending: 0, start: 0 };
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`nothing ended in 40 s: ${JSON.stringify(seen)}`)), 40_000).unref();
    new CallWrapper(by, new PromptBuilder(graph, [], ["picture"]).setOutputNode("picture", node))
      .onPending(() => seen.pending++)
      .onStart(() => { seen.start++; started?.(); })
      .onProgress(() => seen.progress++)
      .onPreview(() => seen.previews++)
      .onFinished((data) => resolve({ ...seen, data }))
      .onFailed((error) => resolve({ ...seen, error }))
      .run();
  });
}

const text = await run(textToImage(Date.now() % 1e9), "9");
assert.ok(!text.error, `a run failed: ${text.error}`);
assert.ok(text.progress > 0 && text.previews > 0 && text.pending === 1 && text.start === 1, JSON.stringify({ ...text, data: null }));
assert.ok(isPNG(await (await api.getImage(text.data.picture.images[0])).arrayBuffer()), "the picture is no PNG");

const upload = await api.uploadImage(new Blob([png(32)]), "saintno.png", { override: true });
const inverted = await run(invert(upload.info.filename), "3");
assert.ok(inverted.data?.picture.images.length === 1, `a run with an upload: ${inverted.error}`);

const fails = await run(failing(), "3");
assert.ok(fails.error, "a workflow that raises has finished");
const stopped = await run(slow(30), "3", () => api.interrupt());
assert.ok(stopped.error, "an interrupted run has finished");


// Two at once are two clients, as its pool has them: within one, a run takes the success of another for its own failure.
const pool = new ComfyPool([connect(), connect()], EQueueMode.PICK_ZERO);
const all = await pool.batch([1, 2, 3, 4].map((i) => (client) => run(textToImage(Date.now() % 1e9 + i), "9", undefined, client)));
assert.ok(all.every((one) => one.data), `one of a pool failed: ${all.map((one) => one.error)}`);
await api.storeSetting("clients.saintno", 7);
assert.equal(await api.getSetting("clients.saintno"), 7);
assert.ok((await api.getCheckpoints()).includes("v1-5-pruned-emaonly.safetensors"));
api.destroy?.();
console.log("ready, a run with progress, previews and picture, upload, failure, interrupt, a pool, settings, models");
process.exit(0);
