// Workflows that a simulated host runs and draws, and a picture to upload.
import { deflateSync } from "node:zlib";

// textToImage is ComfyUI's first example; a simulated sampler reports progress and sends previews.
export const textToImage = (seed) => ({
  3: { class_type: "KSampler", inputs: { seed, steps: 10, cfg: 7, sampler_name: "euler", scheduler: "normal", denoise: 1, model: ["4", 0], positive: ["6", 0], negative: ["7", 0], latent_image: ["5", 0] } },
  4: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "v1-5-pruned-emaonly.safetensors" } },
  5: { class_type: "EmptyLatentImage", inputs: { width: 64, height: 64, batch_size: 1 } },
  6: { class_type: "CLIPTextEncode", inputs: { text: `a cat, number ${seed}`, clip: ["4", 1] } },
  7: { class_type: "CLIPTextEncode", inputs: { text: "bad hands", clip: ["4", 1] } },
  8: { class_type: "VAEDecode", inputs: { samples: ["3", 0], vae: ["4", 2] } },
  9: { class_type: "SaveImage", inputs: { filename_prefix: "clients", images: ["8", 0] } },
});

// invert shows that an upload reaches the host.
export const invert = (image) => ({
  1: { class_type: "LoadImage", inputs: { image } },
  2: { class_type: "ImageInvert", inputs: { image: ["1", 0] } },
  3: { class_type: "SaveImage", inputs: { filename_prefix: "ts", images: ["2", 0] } },
});

// slow runs for so many seconds, with previews.
export const slow = (seconds) => ({
  1: { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 1, color: 255 } },
  2: { class_type: "SimSleep", inputs: { image: ["1", 0], seconds, steps: 20, preview: "JPEG" } },
  3: { class_type: "SaveImage", inputs: { filename_prefix: "slow", images: ["2", 0] } },
});

// failing raises on every host, so that the workflow is at fault.
export const failing = () => ({
  1: { class_type: "EmptyImage", inputs: { width: 64, height: 64, batch_size: 1, color: 9 } },
  2: { class_type: "SimRaise", inputs: { image: ["1", 0], kind: "ValueError", message: "it is meant to fail" } },
  3: { class_type: "SaveImage", inputs: { filename_prefix: "failing", images: ["2", 0] } },
});

// impossible has a class that no host has.
export const impossible = () => ({ 1: { class_type: "NoHostHasThis", inputs: {} }, 2: { class_type: "SaveImage", inputs: { filename_prefix: "x", images: ["1", 0] } } });

export const isPNG = (bytes) => Buffer.from(bytes).subarray(1, 4).toString() === "PNG";

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

// png is a grey square.
export function png(side) {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  const rows = Buffer.alloc(side * (1 + 3 * side), 0x7f);
  for (let y = 0; y < side; y++) rows[y * (1 + 3 * side)] = 0;
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0)),
  ]);
}
