// Command agent runs the jobs of one or more ComfyUI hosts: it takes offers from dispatchers, drives ComfyUI, stores
// the outputs and reports the end of each job.
//
//	agent           serve the hosts of COMFY_HOSTS until stopped
//	agent health    check the health of the agent on this machine
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
