// Package queue is what dispatchers and agents share on NATS.
//
// Guarantee: a submitted job is stored once, has exactly one terminal event, and its last event is its state. Three mechanisms
// hold it:
//
//   - The lease: a job stays in COMFY_JOBS until it has ended. Whoever extends its delivery owns the job; when nobody extends it
//     for AckWait, NATS delivers the job again. A lease is not fenced, so no decision rests on it alone.
//   - The chain: a job's events are appended by compare-and-set on the job's last event. Of two writers that expect the same last
//     event one succeeds, and the other gets ErrOvertaken and must read the chain again.
//   - The waiting room: a job that cannot run now is parked, and a ticket in COMFY_WAITING stands for it, which exactly one
//     dispatcher can claim.
//
// Open makes the streams and buckets that are missing and returns a Queue, whose methods are the rest of the package. The types of
// a tenant's calls are those of package jetstream, the names on the wire those of package names.
//
// The files, in reading order:
//
//	config, queue               settings, Open, and what an open Queue has
//	topology*                   the streams and buckets: how they are made, changed, limited, and made again when deleted
//	delivery, pull, lease       jobs are received; their leases are extended, parked and ended
//	chain, publish, cancel      events of a job are appended and read; a job is cancelled
//	tickets, slots              the waiting room, and the slots of tenants with a cap
//	offers, presence            jobs are offered to hosts; hosts and dispatchers say that they are there
//	hoststate_*, hostevents     the state of a host in JSON; events of hosts
//	hostconditions, grants      what outlives an agent; the tenants that a host serves
//	blocks, blockevents         blocks and strikes, and the events that announce them
//	settings, audit, secrets    affinity rules and tenants' settings; who changed what; random bytes that a fleet shares
//	deadletters*                dead jobs are buried, listed and requeued
//	follow, directget           events as they come, with a consumer and without one
//	eventreader, eventpages     stored events in batches, and pages of them for tenants
//	progress                    live progress and previews
//	files*                      files of jobs in object stores: stored, read, read from an offset, counted
//	serveapi, servecalls, servetenants, servefiles, operatorcalls, pagesize
//	                            the calls that a dispatcher answers
//	watch, sharedconsumer, sidebyside, turns, contention, requests, reconnects, clock, check, natserrors, jobsize
//	                            tools of the other files: watches, compare-and-set, requests, NATS' time, checks of what is read
package queue
