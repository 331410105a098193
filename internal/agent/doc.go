// Package agent runs the jobs that are offered to ComfyUI hosts and reports how each attempt ended.
//
// It guarantees that the lease of an accepted job is kept alive until its attempt has ended, and that the attempt ends
// with exactly one of: a completed event followed by the ack, a failed event that carries the lease, or nothing, because
// the job's chain has gone on without it. Events are appended by compare-and-set on the chain, so that an agent that was
// cut off changes nothing when it is back. The agent acks jobs and NAKs none, but for an ended job with extra_data, which
// a dispatcher erases.
//
// One process drives any number of hosts. A job's way from the offer to the ack, in the order of the files:
//
//	offers.go        the offer is answered; a resumed one after ComfyUI was asked for its prompt
//	admission.go     a slot is reserved, or the offer is refused: the host's runs, slots and conditions
//	broadcast.go     the other dispatchers are sent the host's new state
//	run.go           the accepted run: its lease, and why it may have to stop
//	attempt.go       its goroutine, with every effect in order and what a crash after it does; freeSlot frees the slot, once, and broadcasts that
//	follow.go        events of the job's chain that others append, such as a cancel
//	promptid.go      the prompt's id in ComfyUI
//	inputs.go        input files are fetched (addresses.go) and uploaded
//	comfyui.go       what is asked of ComfyUI; progress.go publishes the progress of the prompt
//	consequences.go  after a failure: the prompt is stopped, and the host's condition is found out
//	outputs.go       results are stored (store.go), with small pictures (thumb.go) and what ComfyUI recorded (record.go); the slot is freed
//	                 before that, and by runAttempt in all other cases
//	redact.go        secrets are taken out of what is reported
//	report.go        completed or failed is appended, and a completed job acked
//	acks.go          the last acks are kept, and sent again after an outage of NATS
//	cleanup.go       its files are removed from the host
//
// Beside that, each host has loops (host.go): leases.go, presence.go (with persist.go, and duplicate.go for a second agent
// of the same name), health.go with the probes of conditions (condition.go, probes.go) and the reading of what ComfyUI can
// run (capability.go, catalog.go with archives.go), and reconnect.go for what was missed while NATS was disconnected.
// pages.go passes requests of clients on to ComfyUI, loadtimes.go says how long models took to load, and metrics.go counts. agent.go and
// config.go make all of it.
//
// A crash at any moment leaves the prompt in ComfyUI and the job in COMFY_JOBS. The job is delivered again and offered to
// the same host as the same attempt while the host's presence lasts, and its prompt is found by its id, which is a
// function of the job and the attempt.
package agent
