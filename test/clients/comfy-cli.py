# needs: comfy-cli==1.23.0
# The command line in both its dialects: local with a host and a port (it can send no key), and cloud with the gateway's address and a key.
import json
import os
import subprocess
import sys
import time
from pathlib import Path

host, port = os.environ["GATEWAY_OPEN"].split(":")
home = Path(os.environ["CLIENTS_WORK"]) / "comfy-cli-home"
home.mkdir(exist_ok=True)
program = Path(sys.executable).parent / "comfy"
dialects = {
    "local": {"COMFY_LOCAL_URL": f"http://{host}:{port}"},
    "cloud": {"COMFY_CLOUD_BASE_URL": os.environ["GATEWAY_URL"], "COMFY_CLOUD_API_KEY": os.environ["GATEWAY_KEY"]},
}


def graph(seed, seconds=0.3):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": seed}},
        "2": {"class_type": "SimSleep", "inputs": {"image": ["1", 0], "seconds": seconds, "steps": 5, "preview": "JPEG"}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "comfy-cli", "images": ["2", 0]}},
    }


def comfy(dialect, *args, ok=True):
    """Runs a command and gives its last line of JSON."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("COMFY")}
    env |= dialects[dialect] | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "COMFY_NO_WATCH": "1", "DO_NOT_TRACK": "1"}
    run = subprocess.run([program, "--skip-prompt", "--json", "--where", dialect, *args], env=env, capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert (run.returncode == 0) == ok and lines, f"Error: {dialect}: comfy {args} ended with {run.returncode}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    return lines


def submit(dialect, content, *args, ok=True):
    path = home / "workflow.json"
    path.write_text(json.dumps(content))
    return comfy(dialect, "run", "--workflow", str(path), "--no-watch", *args, ok=ok)


def prompt_of(lines):
    found = [line.get("prompt_id") or (line.get("data") or {}).get("prompt_id") for line in lines]
    return next(prompt for prompt in found if prompt)


for dialect in dialects:
    where = ["--host", host, "--port", port] if dialect == "local" else []
    lines = submit(dialect, graph(1), "--wait", *where)
    prompt = prompt_of(lines)
    out = home / dialect
    comfy(dialect, "download", prompt, "--out-dir", str(out))
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) == 1 and files[0].read_bytes()[1:4] == b"PNG", f"{dialect}: downloaded {files}"

    status = comfy(dialect, "jobs", "status", prompt)[-1]
    assert "completed" in json.dumps(status), status
    running = prompt_of(submit(dialect, graph(2, seconds=40), *where))
    while "running" not in json.dumps(comfy(dialect, "jobs", "status", running)[-1]) and "in_progress" not in json.dumps(comfy(dialect, "jobs", "status", running)[-1]):
        time.sleep(0.2)
    comfy(dialect, "jobs", "ls")
    comfy(dialect, "jobs", "cancel", running)
    ended = comfy(dialect, "jobs", "wait", running, ok=False)[-1]
    assert "cancel" in json.dumps(ended), ended

    refused = submit(dialect, {"1": {"class_type": "NoHostHasThis", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}}}, "--wait", *where, ok=False)
    assert "NoHostHasThis" in json.dumps(refused), refused
print("local and cloud: run and wait, download, status, list, cancel, a graph that no host can run is refused")
