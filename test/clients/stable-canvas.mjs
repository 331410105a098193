// needs: @stable-canvas/comfyui-client@1.5.9 ws@8.22.0
// Its only outputs are the frames of the websocket: a run by websocket, one by polling, a failure and an interrupt.
import assert from "node:assert/strict";
import { Client, Workflow } from "@stable-canvas/comfyui-client";
import WebSocket from "ws";
import { failing, invert, png, slow, textToImage } from "./lib/graphs.mjs";

const client = new Client({ api_host: process.env.GATEWAY_OPEN, WebSocket, clientId: crypto.randomUUID() });
assert.ok((await client.getSystemStats()).devices.length > 0, "no devices");
await client.connect();
const limit = (promise) => Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error("nothing ended in 40 s")), 40_000).unref())]);

let steps = 0;
const text = await limit(client.enqueue(textToImage(Date.now() % 1e9), { progress: () => steps++ }));
assert.ok(steps > 0, "no progress came");
const saved = text.images.filter((image) => image.type === "url");
assert.ok(saved.length === 1, JSON.stringify(text));
assert.ok((await (await fetch(saved[0].data)).arrayBuffer()).byteLength > 0, "the picture is empty");

const polled = await limit(client.enqueue_polling(textToImage(Date.now() % 1e9 + 1)));
assert.ok(polled.images.some((image) => image.type === "url"), JSON.stringify(polled));

const upload = new FormData();
upload.append("image", new Blob([png(32)]), "stable.png");
await client.fetchApi("/upload/image", { method: "POST", body: upload });
assert.ok((await limit(client.enqueue(invert("stable.png")))).images.some((image) => image.type === "url"), "a run with an upload has no picture");

await assert.rejects(limit(client.enqueue(failing())), (error) => !/nothing ended/.test(error.message), "a workflow that raises has finished");

const workflow = new Workflow(); // enqueue has no answer to an interrupt, a workflow has
workflow.workflow = () => ({ prompt: slow(30) });
const invoked = workflow.instance(client);
await invoked.enqueue();
client.once("progress", () => invoked.interrupt());
await assert.rejects(limit(invoked.wait()), (error) => error.name === "WorkflowInterruptedError" || /interrupt/i.test(String(error)), "an interrupted run has finished");
client.close();
console.log("a run with progress and picture by websocket, one by polling, upload, failure, interrupt");
process.exit(0);
