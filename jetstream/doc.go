// Package jetstream is comfyherd's world on NATS: the one room that knows a subject, a stream, a bucket or a
// header by name.
//
// Guarantee: a submitted job is stored once, has exactly one terminal event, and its last event is its state.
// Three mechanisms carry that. The lease: a job stays in COMFY_JOBS until it has ended, and whoever extends its
// delivery owns it. The chain: a job's events are appended by compare-and-set on the job's last event, so two
// writers can never both be right. The waiting room: a job that cannot run now is a ticket that exactly one
// dispatcher can claim.
//
// A program that submits jobs and follows them needs Open, Queue.Submit and Queue.Follow, or, with the permissions of one
// tenant, NewClient and the methods of Client; the rest serves the dispatcher and the agent.
package jetstream
