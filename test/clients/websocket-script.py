# needs: websocket-client==1.9.2
# A script to the same protocol as ComfyUI's script_examples: it waits on the websocket for the end of its prompt, reads the history once,
# and views the files. A second part takes the pictures of SaveImageWebsocket from the websocket itself. It can send no key.
import json
import os
import random
import struct
import urllib.error
import urllib.parse
import urllib.request
import uuid

import websocket

server = os.environ["GATEWAY_OPEN"]
client = str(uuid.uuid4())


def post(path, body):
    request = urllib.request.Request(f"http://{server}{path}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def get(path):
    with urllib.request.urlopen(f"http://{server}{path}", timeout=60) as answer:
        return answer.read()


def queue(graph):
    prompt = str(uuid.uuid4())
    assert post("/prompt", {"prompt": graph, "client_id": client, "prompt_id": prompt})["prompt_id"] == prompt
    return prompt


def follow(socket, prompt):
    """Gives the kinds of frames and the pictures that came while a node saved to the websocket."""
    kinds, node, pictures = [], "", []
    while True:
        frame = socket.recv()
        if isinstance(frame, bytes):
            kind, = struct.unpack(">I", frame[:4])
            kinds.append(f"binary {kind}")
            if node == "save_image_websocket_node":
                pictures.append(frame[8:])
            continue
        message = json.loads(frame)
        kinds.append(message["type"])
        data = message["data"]
        if message["type"] == "executing" and data["prompt_id"] == prompt:
            node = data["node"]
            if node is None:
                return kinds, pictures


def sampler(seed):
    return {
        "3": {"class_type": "KSampler", "inputs": {"seed": seed, "steps": 10, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
                                                   "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "masterpiece best quality girl", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad hands", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }


def failing():
    graph = sampler(1)
    graph["10"] = {"class_type": "SimRaise", "inputs": {"image": ["8", 0], "kind": "ValueError", "message": "it is meant to fail"}}
    graph["9"]["inputs"]["images"] = ["10", 0]
    return graph


socket = websocket.create_connection(f"ws://{server}/ws?clientId={client}", timeout=60)

prompt = queue(sampler(random.randrange(2**53)))
kinds, _ = follow(socket, prompt)
assert "progress" in kinds and "binary 1" in kinds and "executed" in kinds, kinds
entry = json.loads(get(f"/history/{prompt}"))[prompt]
images = [image for output in entry["outputs"].values() for image in output["images"]]
assert len(images) == 2, entry["outputs"]
for image in images:
    view = get("/view?" + urllib.parse.urlencode({"filename": image["filename"], "subfolder": image["subfolder"], "type": image["type"]}))
    assert view[1:4] == b"PNG", view[:8]

graph = sampler(random.randrange(2**53))
del graph["9"]
graph["save_image_websocket_node"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
prompt = queue(graph)
_, pictures = follow(socket, prompt)
assert len(pictures) == 2 and all(picture[1:4] == b"PNG" for picture in pictures), [picture[:8] for picture in pictures]
assert json.loads(get(f"/history/{prompt}"))[prompt]["outputs"] == {}

# Three prompts at once on two hosts: each picture must come while its own prompt is the one that the frames name.
prompts = []
for size in (1, 2, 3):
    graph = sampler(random.randrange(2**53))
    graph["5"]["inputs"]["batch_size"] = size
    del graph["9"]
    graph["save_image_websocket_node"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
    prompts.append((queue(graph), size))
found, current, ended = {}, None, set()
while len(ended) < len(prompts):
    frame = socket.recv()
    if isinstance(frame, bytes):
        if current and current[1] == "save_image_websocket_node":
            found[current[0]] = found.get(current[0], 0) + 1
        continue
    message = json.loads(frame)
    if message["type"] == "executing":
        current = (message["data"]["prompt_id"], message["data"]["node"])
        if current[1] is None:
            ended.add(current[0])
assert found == dict(prompts), f"pictures by prompt: {found}, want {dict(prompts)}"

prompt = queue(failing())
kinds, _ = follow(socket, prompt)
assert "execution_error" in kinds and "execution_success" not in kinds, kinds
try:
    queue({"1": {"class_type": "NoHostHasThis", "inputs": {}}})
    raise AssertionError("a class that no host has was taken")
except urllib.error.HTTPError as refused:
    assert refused.code == 400 and "NoHostHasThis" in refused.read().decode()
socket.close()
print("a run with progress, previews and two pictures, pictures over the websocket, three prompts at once, a failure, a refused graph")
