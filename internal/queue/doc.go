// Package queue is what dispatchers and agents share on NATS.
//
// Guarantee: a submitted job is stored once, has exactly one terminal event, and its last event is its state.
// Three mechanisms carry that. The lease: a job stays in COMFY_JOBS until it has ended, and whoever extends its
// delivery owns it. The chain: a job's events are appended by compare-and-set on the job's last event, so two
// writers can never both be right. The waiting room: a job that cannot run now is a ticket that exactly one
// dispatcher can claim.
//
// Open makes the streams and buckets that are missing and gives a Queue. Its methods are grouped by what they work on: jobs and
// leases, chains and events, tickets, blocks and strikes, hosts and offers, settings, files, and the calls that a dispatcher
// serves. The types of a tenant's calls are those of package jetstream, the names on the wire those of package names.
package queue
