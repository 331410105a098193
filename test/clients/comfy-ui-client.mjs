// needs: comfy-ui-client@0.1.2
// The client takes a host and a port and can send no key: upload, a run whose pictures it fetches at the end, what it asks of a server.
import assert from "node:assert/strict";
import { ComfyUIClient } from "comfy-ui-client";
import { impossible, invert, isPNG, png, textToImage } from "./lib/graphs.mjs";

const client = new ComfyUIClient(process.env.GATEWAY_OPEN, crypto.randomUUID());
await client.connect();
assert.ok((await client.getSystemStats()).devices.length > 0, "no devices");
assert.ok((await client.getObjectInfo("KSampler")).KSampler.input.required.sampler_name[0].includes("euler"), "KSampler has no euler");

const upload = await client.uploadImage(png(32), "grey.png", true);
assert.equal(upload.name, "grey.png");
const mask = await client.uploadMask(png(32), "mask.png", { filename: upload.name, subfolder: upload.subfolder, type: upload.type }, true).catch((error) => error);
for (const [node, graph] of [["9", textToImage(Date.now() % 1e9)], ["3", invert(upload.name)]]) {
  const pictures = await client.getImages(graph);
  assert.deepEqual(Object.keys(pictures), [node]);
  assert.ok(isPNG(await pictures[node][0].blob.arrayBuffer()), "the picture is no PNG");
}
await assert.rejects(client.queuePrompt(impossible()), /NoHostHasThis/);
const queue = await client.getQueue();
assert.ok(Array.isArray(queue.queue_running) && Array.isArray(queue.queue_pending));
await client.disconnect();
await new Promise((done) => setTimeout(done, 200)); // its log line comes first
console.log(`stats, object_info, upload, two runs with their pictures, a prompt that no host can run is refused${mask instanceof Error ? "; its mask upload is refused, as ComfyUI does (it sends originalRef)" : ""}`);
