// Command agent runs the jobs of one or more ComfyUI hosts: it takes offers from dispatchers, drives ComfyUI, stores
// the pictures and says how it went.
//
//	agent           serve the hosts of COMFY_HOSTS until stopped
//	agent health    ask the agent on this machine whether it does its work
//
// Every flag has an environment variable: NATS_URL, NATS_CREDS, COMFY_HOSTS, and COMFYHERD_<FLAG> for the rest. SIGTERM
// or Ctrl-C lets running jobs finish within --drain; a second one ends at once. Exit code 0 is a clean end, 1 an error.
//
// The agent keeps no files. It opens no port unless --http says so, which serves /healthz, /readyz and /metrics.
package main

import (
	"context"
	"os"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func main() {
	daemon.TuneMemory()
	os.Exit(run(context.Background(), os.Args[1:], daemon.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
