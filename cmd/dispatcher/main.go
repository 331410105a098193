// Command dispatcher runs comfyherd's dispatcher and asks a running fleet: it submits jobs, follows them, shows
// hosts, blocks and dead letters, and demonstrates and measures the whole.
//
//	dispatcher run        decide which host runs which job; with NATS in the process when there is none
//	dispatcher gateway    serve programs that were written for ComfyUI, in place of a ComfyUI
//	dispatcher demo       failover, a block and its end on one machine, in under 30 s
//	dispatcher submit     publish workflows; with --wait until they have ended
//	dispatcher wait       wait for jobs that were submitted before
//	dispatcher fetch      the files of completed jobs
//	dispatcher jobs       list jobs, newest first
//	dispatcher status     the events, attempts and files of a job
//	dispatcher why        why a job is not running, or where a workflow could run
//	dispatcher watch      events as they happen
//	dispatcher cancel     cancel jobs that wait or run
//	dispatcher queue      lanes with their depth and share
//	dispatcher hosts      hosts; drain and resume one
//	dispatcher blocks     pairs of host and workflow that are blocked; clear them
//	dispatcher dead       dead letters: list, show, requeue, purge
//	dispatcher affinity   rules that tie a workflow to hosts
//	dispatcher tenants    weights and caps of tenants
//	dispatcher access     keys of a closed fleet: give and revoke credentials of tenants, agents and operators
//	dispatcher health     check the health of a dispatcher on this machine
//	dispatcher doctor     check a fleet from one end to the other, with a tiny job of each tenant on each host
//	dispatcher completion  what bash, zsh or fish needs to complete command lines
//	dispatcher help       the help of a command
//	dispatcher sim        a simulated ComfyUI
//	dispatcher bench      throughput and latency beside the raw limit of NATS
//
// Standard output gets results only; messages about progress and problems go to standard error. Every flag has an
// environment variable: NATS_URL, NATS_CREDS, COMFY_HOSTS, and COMFYHERD_<FLAG> for the rest.
//
// The commands about jobs need only a tenant's credentials, and are then about that tenant's jobs.
//
// Exit codes: 0 done, 1 the command failed; of submit --wait and wait also 2 a job died, 3 a job was cancelled, 4 the wait
// timed out, 130 interrupted while waiting.
//
// Files: `run` keeps its embedded NATS in --store-dir, by default comfyherd in the user's data folder. Ports: the
// embedded NATS listens on --listen (127.0.0.1:4222) and the gateway on --gateway (127.0.0.1:8188); --http serves
// /healthz, /readyz and /metrics.
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
