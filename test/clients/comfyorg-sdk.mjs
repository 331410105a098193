// What comfy-sdk's end-to-end test does, with the TypeScript SDK: upload, dedup, run by name and by reference, stream, cancel, list.
import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import { writeFile } from "node:fs/promises";
import { Comfy } from "@comfyorg/sdk";

function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let i = 0; i < 8; i++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

function chunk(tag, data) {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(tag, 4, "latin1");
  data.copy(out, 8);
  out.writeUInt32BE(crc(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

function png(side) {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  const rows = Buffer.alloc(side * (1 + 3 * side), 0x7f);
  for (let y = 0; y < side; y++) rows[y * (1 + 3 * side)] = 0;
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0)),
  ]);
}

const graph = (image) => ({
  1: { class_type: "LoadImage", inputs: { image } },
  2: { class_type: "ImageInvert", inputs: { image: ["1", 0] } },
  3: { class_type: "SaveImage", inputs: { filename_prefix: "ts", images: ["2", 0] } },
});

const client = new Comfy({ apiKey: process.env.COMFY_API_KEY });
await writeFile("ts_input.png", png(64));
const asset = client.assets.fromFile("ts_input.png");
const id = await asset.commit();
assert.equal(await client.assets.fromFile("ts_input.png").commit(), id, "the same file again is another asset");

const byReference = client.workflows.fromJson(graph(""));
byReference.setInput("1", "image", asset);
for (const [how, workflow] of [["by name", client.workflows.fromJson(graph("ts_input.png"))], ["by reference", byReference]]) {
  const job = await client.run(workflow);
  assert.equal(job.status, "succeeded", `a run ${how} ended ${job.status}: ${JSON.stringify(job.error)}`);
  const file = await job.outputs[0].toBytes();
  assert.equal(Buffer.from(file.subarray(1, 4)).toString(), "PNG");
}

const streamed = await client.submit(client.workflows.fromJson(graph("ts_input.png")));
const kinds = [];
let last;
for await (const event of streamed.events()) {
  kinds.push(event.kind);
  last = event;
}
assert.equal(last.status, "succeeded", `the stream ended with ${JSON.stringify(last)} after ${kinds}`);
assert.ok(kinds.slice(0, -1).includes("outputReady"), `no output before the end: ${kinds}`);

const ended = await client.jobs.get(streamed.id);
assert.ok((await ended.outputs[0].getDownloadUrl()).url.startsWith(process.env.COMFY_BASE_URL));
assert.equal((await ended.cancel()).status, "succeeded", "a cancel has changed a job that had ended");
assert.equal((await ended.getWorkflow()).format, "api");
await asset.delete();
await assert.rejects(client.assets.get(id), "a deleted asset is still there");
console.log("upload, dedup, runs by name and by reference, stream, cancel, workflow, delete: as they should be");
