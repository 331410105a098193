// needs: @comfyorg/sdk@0.1.9
// What comfy-sdk's end-to-end test does, with the TypeScript SDK: upload, dedup, run by name and by reference, stream, cancel, list.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { Comfy } from "@comfyorg/sdk";
import { invert, png } from "./lib/graphs.mjs";

process.env.COMFY_BASE_URL = process.env.GATEWAY_URL;
const client = new Comfy({ apiKey: process.env.GATEWAY_KEY });
await writeFile("ts_input.png", png(64));
const asset = client.assets.fromFile("ts_input.png");
const id = await asset.commit();
assert.equal(await client.assets.fromFile("ts_input.png").commit(), id, "the same file again is another asset");

const byReference = client.workflows.fromJson(invert(""));
byReference.setInput("1", "image", asset);
for (const [how, workflow] of [["by name", client.workflows.fromJson(invert("ts_input.png"))], ["by reference", byReference]]) {
  const job = await client.run(workflow);
  assert.equal(job.status, "succeeded", `a run ${how} ended ${job.status}: ${JSON.stringify(job.error)}`);
  const file = await job.outputs[0].toBytes();
  assert.equal(Buffer.from(file.subarray(1, 4)).toString(), "PNG");
}

const streamed = await client.submit(client.workflows.fromJson(invert("ts_input.png")));
const kinds = [];
let last;
for await (const event of streamed.events()) {
  kinds.push(event.kind);
  last = event;
}
assert.equal(last.status, "succeeded", `the stream ended with ${JSON.stringify(last)} after ${kinds}`);
assert.ok(kinds.slice(0, -1).includes("outputReady"), `no output before the end: ${kinds}`);

const ended = await client.jobs.get(streamed.id);
assert.ok((await ended.outputs[0].getDownloadUrl()).url.startsWith(process.env.GATEWAY_URL));
assert.equal((await ended.cancel()).status, "succeeded", "a cancel has changed a job that had ended");
assert.equal((await ended.getWorkflow()).format, "api");
await asset.delete();
await assert.rejects(client.assets.get(id), "a deleted asset is still there");
console.log("upload, dedup, runs by name and by reference, stream, cancel, workflow, delete");
