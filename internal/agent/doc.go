// Package agent runs the jobs that are offered to ComfyUI hosts and says how each attempt went.
//
// Guarantee: of an accepted job the lease is kept alive until the attempt has ended, and the attempt ends with
// exactly one of: a completed event followed by the ack, a failed event that carries the lease, or nothing at
// all because the job's chain has moved on without it. An agent NAKs nothing but an
// ended job with extra_data, for a dispatcher to erase. What it appends, it appends by
// compare-and-set on the chain, so that a stale agent disturbs nobody.
//
// One process drives any number of hosts, each by loops of its own (host.go): offers (offers.go), leases
// (leases.go), presence (presence.go), ComfyUI's health and capability (health.go), and what was missed while
// NATS was away (reconnect.go). The admission (admission.go) is the only judge of a host's slots. Every accepted job has one
// goroutine, and its walk from the offer to the ack is read top to bottom in walk.go; inputs.go and outputs.go
// carry its files, report.go writes its events.
//
// A crash at any moment leaves the prompt in ComfyUI and the job in COMFY_JOBS: the redelivered job is offered
// back as the same attempt while the host's presence lasts, and its prompt is found by its id, which is a function
// of the job and the attempt.
package agent
